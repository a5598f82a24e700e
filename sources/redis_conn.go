package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sql2metrics/config"
)

// redisConn is one connection as a pool has it: to one server, or to every node
// of a cluster that was asked for something.
type redisConn struct {
	source  config.Source
	sockets *sockets
	login   redisLogin
	home    *redisNode            // the server, or the node that was asked first
	nodes   map[string]*redisNode // by address, home too
	slots   []redisSlots          // of a cluster, once they were needed
	reached bool                  // the statement under way was sent
}

// dialRedis connects to the first address that answers, or to the master that a
// Sentinel names. One that refuses the login is the last: the others hold the
// same accounts.
func dialRedis(ctx context.Context, s config.Source, all *sockets) (*redisConn, error) {
	secret, err := password(ctx, s)
	if err != nil {
		return nil, err
	}
	c := &redisConn{source: s, sockets: all, login: redisLogin{s.User, secret}, nodes: make(map[string]*redisNode)}
	addresses := redisAddresses(s)
	if s.SentinelMaster != "" {
		if addresses, err = redisMaster(ctx, s, addresses, all); err != nil {
			return nil, err
		}
	}
	err = eachAddress(ctx, addresses, 0, func(ctx context.Context, address string) (err error) {
		c.home, err = c.node(ctx, address)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case s.SentinelMaster != "" && c.home.role != "" && c.home.role != "master":
		c.close()
		return nil, fmt.Errorf("%s: Sentinel names it as the master of %s, and it is a replica: a failover is under way", c.home.address, s.SentinelMaster)
	}
	return c, nil
}

// node returns the connection to a node, and opens it if there is none.
func (c *redisConn) node(ctx context.Context, address string) (*redisNode, error) {
	if n := c.nodes[address]; n != nil {
		return n, nil
	}
	n, err := dialRedisNode(ctx, c.source, address, c.login, c.sockets)
	if err != nil {
		return nil, redisConnectError(ctx, address, c.login, err)
	}
	c.nodes[address] = n
	return n, nil
}

func (c *redisConn) alive() bool {
	for _, n := range c.nodes {
		if n.ended.Load() {
			return false
		}
	}
	return true
}

func (c *redisConn) idle() bool     { return c.alive() }
func (c *redisConn) accepted() bool { return c.reached }

func (c *redisConn) close() {
	for _, n := range c.nodes {
		n.close()
	}
}

// begin readies the connection for a statement, and finds out whether it is
// still there.
func (c *redisConn) begin() error {
	c.reached = false
	for _, n := range c.nodes {
		if !n.isOpen() {
			n.hangUp()
			return fmt.Errorf("%s: the server has ended the connection", n.address)
		}
	}
	c.reached = true
	return nil
}

// prepare makes a connection to a node fit for statements, once.
func (c *redisConn) prepare(ctx context.Context, n *redisNode) error {
	if n.ready {
		return nil
	}
	if db := c.source.Database; db != "" && db != "0" {
		if _, err := n.do(ctx, "SELECT", db); err != nil {
			return fmt.Errorf("select database %s: %w", db, err)
		}
	}
	n.ready = true
	return nil
}

// flagsOf asks the server what it says of a command, once for a connection. Of
// those that are run anyway it is not asked: an account may have few rights.
func (c *redisConn) flagsOf(ctx context.Context, s redisStatement) (redisFlags, error) {
	name := s.name()
	if redisListed[name] {
		return redisFlags{}, nil
	}
	if f, known := c.home.flags[name]; known {
		return f, nil
	}
	f, err := c.home.askFlags(ctx, name)
	switch {
	case isDenied(err):
		return f, fmt.Errorf("ask the server whether %s reads: %w; grant +command|info", name, err)
	case err != nil:
		return f, fmt.Errorf("ask the server whether %s reads: %w", name, err)
	}
	c.home.flags[name] = f
	return f, nil
}

// askFlags reads COMMAND INFO. Before Redis 7 a server knows only the first word
// of a command.
func (n *redisNode) askFlags(ctx context.Context, name string) (redisFlags, error) {
	command, sub, isContained := strings.Cut(strings.ToLower(name), " ")
	asked := []any{"COMMAND", "INFO", command}
	if isContained {
		asked = append(asked, command+"|"+sub)
	}
	r, err := n.do(ctx, asked...)
	if err != nil {
		return redisFlags{}, err
	}
	infos, err := r.list()
	if err != nil {
		return redisFlags{}, err
	}
	var f redisFlags
	known := false
	for range infos {
		is, err := f.read(&r)
		if err != nil {
			return f, err
		}
		known = known || is
	}
	if !known {
		return f, errors.New("it does not know the command")
	}
	return f, nil
}

// read reads what COMMAND INFO says of one command: its name, the number of its
// arguments, its flags, the place of its first key and more. It returns false
// for a command that the server does not know.
func (f *redisFlags) read(r *reply) (bool, error) {
	n, err := r.list()
	if err != nil || n == 0 {
		return false, err
	}
	if n < 4 {
		return false, fmt.Errorf("COMMAND INFO tells %d things and not at least 4", n)
	}
	for range 2 {
		if err := r.skip(); err != nil {
			return false, err
		}
	}
	flags, err := r.list()
	if err != nil {
		return false, err
	}
	*f = redisFlags{}
	for range flags {
		flag, err := r.text()
		if err != nil {
			return false, err
		}
		switch string(flag) {
		case "readonly":
			f.readOnly = true
		case "blocking":
			f.blocks = true
		}
	}
	key, err := r.value()
	if err != nil {
		return false, err
	}
	at, _ := key.Float()
	f.key = int(at)
	for range n - 4 {
		if err := r.skip(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// redisSlots is a range of a cluster's slots and the master that has them.
type redisSlots struct {
	first, last int
	address     string
}

// masters returns the addresses of a cluster's masters in order, or that of the
// one server there is.
func (c *redisConn) masters(ctx context.Context) ([]string, error) {
	if !c.source.Cluster {
		return []string{c.home.address}, nil
	}
	if err := c.loadSlots(ctx, false); err != nil {
		return nil, err
	}
	all := make(map[string]bool)
	for _, s := range c.slots {
		all[s.address] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}
