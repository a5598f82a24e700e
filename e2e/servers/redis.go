package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const redisPattern = "/usr/bin/redis-server"

// RedisServer is a private Redis server, or a Sentinel, without a password and
// without durability. It listens on a port and on a socket in its folder. Its
// methods may be called from several goroutines.
type RedisServer struct {
	Host       string
	Port       int
	SecurePort int // with TLS, of a server that has certificates

	folder   string // holds everything; removed at the end
	binary   string
	args     []string
	password string // of the user default, once SetPassword was called

	daemon
}

// Redis starts a server that ends with the test. A setting is a line of
// redis.conf, such as "maxclients 10".
func Redis(tb testing.TB, settings ...Setting) *RedisServer {
	tb.Helper()
	Need(tb, "redis-server", redisPattern)
	r, err := StartRedis(settings...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// RedisTLS is [Redis] with a secure port, which shows the certificate in PEM files
// and knows clients by the authority in another.
func RedisTLS(tb testing.TB, certFile, keyFile, caFile string, settings ...Setting) *RedisServer {
	tb.Helper()
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	r := Redis(tb, append(settings, Setting("tls-port "+strconv.Itoa(port)),
		Setting("tls-cert-file "+certFile), Setting("tls-key-file "+keyFile), Setting("tls-ca-cert-file "+caFile))...)
	r.SecurePort = port
	return r
}

// SharedRedis is one server for all tests of a binary, as [SharedPostgres] is.
type SharedRedis struct {
	shared[*RedisServer]
}

// Get returns the server. Tests that share it must not stop it.
func (s *SharedRedis) Get(tb testing.TB) *RedisServer {
	tb.Helper()
	Need(tb, "redis-server", redisPattern)
	return s.get(tb, func() (*RedisServer, error) { return StartRedis(busySoon) })
}

// busySoon has the server take a SCRIPT KILL when a script has run for so many
// milliseconds; 5000 is the default.
const busySoon Setting = "busy-reply-threshold 100"

// StartRedis starts a server for callers that have no test, such as TestMain.
// The caller removes it.
func StartRedis(settings ...Setting) (*RedisServer, error) {
	return startRedis("redis-server", redisPattern, func(r *RedisServer) []string {
		lines := []string{
			"save \"\"", "appendonly no", "enable-debug-command local", "unixsocket " + r.Socket(),
			"repl-diskless-sync-delay 0", // seconds that a replica would wait for others
		}
		for _, s := range settings {
			lines = append(lines, string(s))
		}
		return lines
	})
}

// Sentinel starts a Sentinel that watches the master under a name and takes it
// for down after a minute, unless SENTINEL SET tells it otherwise. It ends with
// the test.
func Sentinel(tb testing.TB, name string, master *RedisServer) *RedisServer {
	tb.Helper()
	pattern := "/usr/bin/redis-sentinel"
	Need(tb, "redis-sentinel", pattern)
	s, err := startRedis("redis-sentinel", pattern, func(*RedisServer) []string {
		return []string{
			fmt.Sprintf("sentinel monitor %s %s %d 1", name, master.Host, master.Port),
			"sentinel down-after-milliseconds " + name + " 60000",
			"sentinel failover-timeout " + name + " 3000",
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// slots is how many there are in a cluster.
const slots = 16384

// RedisCluster starts a cluster of masters that ends with the test. The slots
// are spread evenly over them, in order.
func RedisCluster(tb testing.TB, masters int, settings ...Setting) []*RedisServer {
	tb.Helper()
	nodes := make([]*RedisServer, masters)
	for i := range nodes {
		bus, err := freePort()
		if err != nil {
			tb.Fatal(err)
		}
		nodes[i] = Redis(tb, append([]Setting{"cluster-enabled yes", Setting("cluster-port " + strconv.Itoa(bus)), busySoon}, settings...)...)
		nodes[i].Do(tb, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
		if i > 0 {
			nodes[0].Do(tb, "CLUSTER", "MEET", nodes[i].Host, nodes[i].Port, bus)
		}
	}
	for _, n := range nodes {
		Eventually(tb, "the cluster is complete", func() bool {
			info := fmt.Sprint(n.Do(tb, "CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_size:%d\r", masters))
		})
	}
	return nodes
}

func startRedis(debianPackage, pattern string, lines func(*RedisServer) []string) (*RedisServer, error) {
	binary, err := find(debianPackage, []string{pattern})
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "sql2metrics-redis-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for Redis: %w", err)
	}
	r := &RedisServer{Host: "127.0.0.1", folder: folder, binary: binary}
	if r.Port, err = freePort(); err == nil {
		content := append([]string{
			"bind " + r.Host, "port " + strconv.Itoa(r.Port), "dir " + folder, "daemonize no",
		}, lines(r)...)
		r.args = []string{filepath.Join(folder, "redis.conf")}
		err = os.WriteFile(r.args[0], []byte(strings.Join(content, "\n")+"\n"), 0o600)
	}
	if err == nil {
		err = r.Start()
	}
	if err != nil {
		return nil, errors.Join(err, r.Remove())
	}
	return r, nil
}

// Addr returns host:port.
func (r *RedisServer) Addr() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// Socket returns the path of the server's socket.
func (r *RedisServer) Socket() string { return filepath.Join(r.folder, "redis.sock") }

// Start starts the server on the port it always had and returns when it
// answers. It does nothing if the server runs.
func (r *RedisServer) Start() error {
	return r.start(nil, func() error { _, err := r.do("PING"); return err }, r.binary, r.args...)
}

// Remove ends the server and removes its folder.
func (r *RedisServer) Remove() error {
	return errors.Join(r.Stop(), os.RemoveAll(r.folder))
}

// SetPassword gives the user default a password, and ends connections that
// logged in with another. Nobody else may use the server meanwhile.
func (r *RedisServer) SetPassword(tb testing.TB, password string) {
	tb.Helper()
	r.Do(tb, "CONFIG", "SET", "requirepass", password)
	r.password = password
	r.Do(tb, "CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
}

// do runs a command on a connection of its own.
func (r *RedisServer) do(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	client := redis.NewClient(&redis.Options{
		Network: "tcp", Addr: r.Addr(), Password: r.password, Protocol: 2, PoolSize: 1, ReadTimeout: startWait, MaxRetries: -1,
		ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer client.Close()
	return client.Do(ctx, args...).Result()
}

// Do runs one command as the user default and returns its reply as go-redis
// has it under RESP2; nil for nil.
func (r *RedisServer) Do(tb testing.TB, args ...any) any {
	tb.Helper()
	reply, err := r.do(args...)
	if err != nil && !errors.Is(err, redis.Nil) {
		tb.Fatalf("%v: %v", args, err)
	}
	return reply
}

// Exec runs commands whose words have no blanks in them.
func (r *RedisServer) Exec(tb testing.TB, commands ...string) {
	tb.Helper()
	for _, c := range commands {
		var args []any
		for _, word := range strings.Fields(c) {
			args = append(args, word)
		}
		r.Do(tb, args...)
	}
}

// Running returns 1 while a script runs, and keeps everybody else from running
// anything; 0 otherwise.
func (r *RedisServer) Running(tb testing.TB) int {
	tb.Helper()
	_, err := r.do("PING")
	switch {
	case err == nil:
		return 0
	case strings.HasPrefix(err.Error(), "BUSY "):
		return 1
	}
	tb.Fatal(err)
	return 0
}

// Connections returns how many connections have this name.
func (r *RedisServer) Connections(tb testing.TB, name string) int {
	tb.Helper()
	list := fmt.Sprint(r.Do(tb, "CLIENT", "LIST"))
	return strings.Count(list, " name="+name+" ")
}

// Info returns the fields of a section of INFO.
func (r *RedisServer) Info(tb testing.TB, section string) map[string]string {
	tb.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(fmt.Sprint(r.Do(tb, "INFO", section))) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			fields[name] = value
		}
	}
	return fields
}
