package sources

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"sql2metrics/config"
)

// maxRedirects is how often a cluster may send a command to another node: once
// for a slot that moved, and for one that is moving.
const maxRedirects = 4

// loadSlots asks which master has which slots, unless that is known already.
func (c *redisConn) loadSlots(ctx context.Context, again bool) error {
	if c.slots != nil && !again {
		return nil
	}
	r, err := c.home.do(ctx, "CLUSTER", "SLOTS")
	if err != nil {
		return fmt.Errorf("ask for the slots of the cluster: %w", err)
	}
	c.slots, err = readSlots(r, c.home.address)
	if err == nil && len(c.slots) == 0 {
		err = errors.New("it has none: is it a cluster?")
	}
	if err != nil {
		return fmt.Errorf("read the slots of the cluster: %w", err)
	}
	return nil
}

// readSlots reads CLUSTER SLOTS: for each range its ends, the master, and the
// replicas. A node that does not know its own host leaves it out.
func readSlots(r reply, home string) ([]redisSlots, error) {
	ranges, err := r.list()
	if err != nil {
		return nil, err
	}
	slots := make([]redisSlots, 0, min(ranges, slotCount))
	for range ranges {
		n, err := r.list()
		if err != nil {
			return nil, err
		}
		if n < 3 {
			return nil, errors.New("a range has no node")
		}
		var ends [2]int
		for i := range ends {
			v, err := r.value()
			if err != nil {
				return nil, err
			}
			f, err := v.Float()
			if err != nil {
				return nil, err
			}
			ends[i] = int(f)
		}
		parts, err := r.list()
		if err != nil {
			return nil, err
		}
		if parts < 2 {
			return nil, errors.New("a node has no address")
		}
		host, err := r.text()
		if err != nil {
			return nil, err
		}
		port, err := r.text()
		if err != nil {
			return nil, err
		}
		address := net.JoinHostPort(string(host), string(port))
		if len(host) == 0 || string(host) == "?" {
			known, _, _ := net.SplitHostPort(home)
			address = net.JoinHostPort(known, string(port))
		}
		slots = append(slots, redisSlots{ends[0], ends[1], address})
		for range parts - 2 + n - 3 {
			if err := r.skip(); err != nil {
				return nil, err
			}
		}
	}
	return slots, nil
}

// owner returns the address of the master that has a key.
func (c *redisConn) owner(ctx context.Context, key string) (string, error) {
	if err := c.loadSlots(ctx, false); err != nil {
		return "", err
	}
	slot := slotOf(key)
	for _, s := range c.slots {
		if s.first <= slot && slot <= s.last {
			return s.address, nil
		}
	}
	return "", fmt.Errorf("no node of the cluster has slot %d", slot)
}

// redirect returns where a cluster sends a command that a node has refused, and
// whether the node there wants to be told so.
func redirect(err error) (address string, ask, is bool) {
	var said redisError
	if !errors.As(err, &said) {
		return "", false, false
	}
	words := strings.Fields(string(said))
	if len(words) != 3 || words[0] != "MOVED" && words[0] != "ASK" {
		return "", false, false
	}
	return words[2], words[0] == "ASK", true
}

// slotCount is how many slots a cluster has.
const slotCount = 16384

// slotOf returns the slot of a key: the CRC16 (XMODEM) of what stands in its
// first braces, or of the whole key.
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return int(crc) % slotCount
}

// redisMaster asks the Sentinels for the address of the master, the first that
// answers.
func redisMaster(ctx context.Context, s config.Source, sentinels []string, all *sockets) ([]string, error) {
	secret, err := sentinelPassword(ctx, s)
	if err != nil {
		return nil, err
	}
	login := redisLogin{s.SentinelUser, secret}
	var master string
	err = eachAddress(ctx, sentinels, 1, func(ctx context.Context, address string) (err error) {
		if master, err = askSentinel(ctx, s, address, login, all); err != nil {
			return fmt.Errorf("ask Sentinel at %w", redisConnectError(ctx, address, login, err))
		}
		return nil
	})
	return []string{master}, err
}

// sentinelPassword returns the password for the Sentinels.
func sentinelPassword(ctx context.Context, s config.Source) (config.Secret, error) {
	return password(ctx, config.Source{Password: s.SentinelPassword, PasswordFile: s.SentinelPasswordFile, Timeout: s.Timeout})
}

func askSentinel(ctx context.Context, s config.Source, address string, login redisLogin, all *sockets) (string, error) {
	n, err := dialRedisNode(ctx, s, address, login, all)
	if err != nil {
		return "", err
	}
	defer n.close()
	r, err := n.do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.SentinelMaster)
	if err != nil {
		return "", err
	}
	parts, err := r.list()
	if err != nil {
		return "", err
	}
	if parts != 2 {
		return "", fmt.Errorf("it knows no master of the name %s; check sentinel_master", s.SentinelMaster)
	}
	host, err := r.text()
	if err != nil {
		return "", err
	}
	port, err := r.text()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(string(host), string(port)), nil
}

// redisAddresses returns where the servers of s, or its Sentinels, are.
func redisAddresses(s config.Source) []string {
	switch {
	case len(s.Addresses) > 0:
		return s.Addresses
	case strings.HasPrefix(s.Host, "/"):
		return []string{s.Host}
	}
	return []string{net.JoinHostPort(s.Host, strconv.Itoa(s.Port))}
}
