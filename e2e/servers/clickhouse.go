package servers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// ClickHouse is a private ClickHouse server with the accounts of its tests. Its
// methods may be called from several goroutines. What it does by itself for a
// test it does over HTTP.
type ClickHouse struct {
	Host       string
	Port       int // native protocol
	HTTPPort   int
	SecurePort int // native protocol with TLS, of a server that has certificates
	User       string
	Password   string

	folder string
	extra  string // more XML for config.xml

	accountsMu sync.Mutex
	accounts   []Account

	daemon
}

// Account is a user of a ClickHouse server.
type Account struct {
	Name     string
	Password string
	Readonly int // the setting of the account's profile
}

// ClickHouseServer starts a server that ends with the test. The accounts are
// there beside the one that may do all.
func ClickHouseServer(tb testing.TB, accounts ...Account) *ClickHouse {
	tb.Helper()
	Need(tb, "clickhouse-server", clickHousePatterns...)
	ch, err := StartClickHouse("", accounts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ch.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return ch
}

// ClickHouseTLS is [ClickHouseServer] with a secure port of the native protocol,
// which shows the certificate in PEM files.
func ClickHouseTLS(tb testing.TB, certFile, keyFile string, accounts ...Account) *ClickHouse {
	tb.Helper()
	Need(tb, "clickhouse-server", clickHousePatterns...)
	port, err := freePort()
	if err != nil {
		tb.Fatal(err)
	}
	ch, err := StartClickHouse(fmt.Sprintf(`<tcp_port_secure>%d</tcp_port_secure><openSSL><server>
		<certificateFile>%s</certificateFile><privateKeyFile>%s</privateKeyFile>
		<verificationMode>none</verificationMode><loadDefaultCAFile>false</loadDefaultCAFile></server></openSSL>`, port, certFile, keyFile), accounts...)
	if err != nil {
		tb.Fatal(err)
	}
	ch.SecurePort = port
	tb.Cleanup(func() {
		if err := ch.Remove(); err != nil {
			tb.Error(err)
		}
	})
	return ch
}

// SharedClickHouse is one server for all tests of a binary: the first that asks
// starts it, TestMain ends it after the last. The zero value is ready.
type SharedClickHouse struct {
	Accounts []Account // to be set before the first test

	shared[*ClickHouse]
}

// Get returns the server. Tests that share it must not stop it.
func (s *SharedClickHouse) Get(tb testing.TB) *ClickHouse {
	tb.Helper()
	Need(tb, "clickhouse-server", clickHousePatterns...)
	return s.get(tb, func() (*ClickHouse, error) { return StartClickHouse("", s.Accounts...) })
}

var clickHousePatterns = []string{"/usr/sbin/clickhouse-server", "/usr/bin/clickhouse-server"}

// StartClickHouse starts a server for callers that have no test, such as
// TestMain. extra is XML for its configuration. The caller removes it.
func StartClickHouse(extra string, accounts ...Account) (*ClickHouse, error) {
	folder, err := os.MkdirTemp("", "sql2metrics-clickhouse-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for ClickHouse: %w", err)
	}
	ch := &ClickHouse{
		Host:     "127.0.0.1",
		User:     "dba",
		Password: "p@ss'w\\ord: %20/?#<&>", // whatever reads it has to quote it
		folder:   folder,
		extra:    extra,
		accounts: accounts,
	}
	for _, port := range []*int{&ch.Port, &ch.HTTPPort} {
		if err == nil {
			*port, err = freePort()
		}
	}
	if err == nil {
		err = ch.Start()
	}
	if err != nil {
		return nil, errors.Join(err, ch.Remove())
	}
	return ch, nil
}

// Addr returns host:port of the native protocol.
func (ch *ClickHouse) Addr() string { return net.JoinHostPort(ch.Host, strconv.Itoa(ch.Port)) }

// writeConfig writes the files that the server reads, the accounts among them.
func (ch *ClickHouse) writeConfig() error {
	path := func(name string) string { return filepath.Join(ch.folder, name) }
	settings := fmt.Sprintf(`<yandex>
	<logger><level>warning</level><console>1</console></logger>
	<listen_host>%s</listen_host><tcp_port>%d</tcp_port><http_port>%d</http_port>
	<path>%s/</path><tmp_path>%s/</tmp_path>
	<users_config>%s</users_config><default_profile>default</default_profile><default_database>default</default_database>
	<mark_cache_size>5242880</mark_cache_size><timezone>UTC</timezone>%s
</yandex>`, ch.Host, ch.Port, ch.HTTPPort, path("data"), path("tmp"), path("users.xml"), ch.extra)
	return errors.Join(
		os.WriteFile(path("config.xml"), []byte(settings), 0o600),
		ch.writeAccounts(),
	)
}

// writeAccounts writes the accounts.
func (ch *ClickHouse) writeAccounts() error {
	var profiles, users strings.Builder
	for _, a := range append([]Account{{ch.User, ch.Password, 0}}, ch.accounts...) {
		hash := sha256.Sum256([]byte(a.Password))
		var name strings.Builder
		if err := xml.EscapeText(&name, []byte(a.Name)); err != nil {
			return fmt.Errorf("write account: %w", err)
		}
		fmt.Fprintf(&profiles, "<%s><readonly>%d</readonly></%s>", &name, a.Readonly, &name)
		fmt.Fprintf(&users, "<%s><password_sha256_hex>%s</password_sha256_hex><networks><ip>::/0</ip></networks><profile>%s</profile><quota>default</quota></%s>",
			&name, hex.EncodeToString(hash[:]), &name, &name)
	}
	content := fmt.Sprintf("<yandex><profiles><default></default>%s</profiles><users>%s</users><quotas><default></default></quotas></yandex>", &profiles, &users)
	return os.WriteFile(filepath.Join(ch.folder, "users.xml"), []byte(content), 0o600)
}

// SetPassword gives an account another password and returns when the server
// takes it.
func (ch *ClickHouse) SetPassword(tb testing.TB, account, password string) {
	tb.Helper()
	ch.accountsMu.Lock()
	found := false
	for i := range ch.accounts {
		if ch.accounts[i].Name == account {
			ch.accounts[i].Password, found = password, true
		}
	}
	err := ch.writeAccounts()
	ch.accountsMu.Unlock()
	if err != nil || !found {
		tb.Fatalf("set the password of %s: %v", account, err)
	}
	ch.Exec(tb, "SYSTEM RELOAD CONFIG")
	Eventually(tb, "ClickHouse takes the password", func() bool {
		_, err := ch.ask("SELECT 1", account, password)
		return err == nil
	})
}

// Start starts the server on the ports it always had and returns when it
// answers. It does nothing if the server runs.
func (ch *ClickHouse) Start() error {
	binary, err := find("clickhouse-server", clickHousePatterns)
	if err != nil {
		return err
	}
	ch.accountsMu.Lock()
	err = ch.writeConfig()
	ch.accountsMu.Unlock()
	if err != nil {
		return err
	}
	ready := func() error {
		if _, err := ch.query("SELECT 1"); err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", ch.Addr(), startWait)
		if err != nil {
			return err
		}
		return c.Close()
	}
	return ch.start(nil, ready, binary, "--config-file="+filepath.Join(ch.folder, "config.xml"))
}

// Remove ends the server and removes its folder.
func (ch *ClickHouse) Remove() error {
	return errors.Join(ch.Stop(), os.RemoveAll(ch.folder))
}

// query runs a statement as the account that may do all.
func (ch *ClickHouse) query(sql string) ([][]string, error) {
	return ch.ask(sql, ch.User, ch.Password)
}

// ask runs a statement over HTTP and returns its rows as ClickHouse prints
// them.
func (ch *ClickHouse) ask(sql, user, password string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	parameters := url.Values{"user": {user}, "password": {password}}
	address := net.JoinHostPort(ch.Host, strconv.Itoa(ch.HTTPPort))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/?"+parameters.Encode(), strings.NewReader(sql))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", sql, errors.Unwrap(err))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", sql, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("run %s: %s", sql, body)
	}
	var rows [][]string
	for line := range strings.Lines(string(body)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows, nil
}

// Exec runs statements.
func (ch *ClickHouse) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	for _, sql := range statements {
		if _, err := ch.query(sql); err != nil {
			tb.Fatal(err)
		}
	}
}

// Query returns the rows of a query, as clickhouse-client prints them.
func (ch *ClickHouse) Query(tb testing.TB, sql string) [][]string {
	tb.Helper()
	rows, err := ch.query(sql)
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

// Running returns how many queries the account has under way.
func (ch *ClickHouse) Running(tb testing.TB, account string) int {
	tb.Helper()
	return len(ch.Query(tb, "SELECT query_id FROM system.processes WHERE user = '"+account+"'"))
}

// Connections returns how many connections of the native protocol the server
// has.
func (ch *ClickHouse) Connections(tb testing.TB) int {
	tb.Helper()
	rows := ch.Query(tb, "SELECT value FROM system.metrics WHERE metric = 'TCPConnection'")
	n, err := strconv.Atoi(rows[0][0])
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// WaitIdle waits until the account has no query under way.
func (ch *ClickHouse) WaitIdle(tb testing.TB, account string) {
	tb.Helper()
	Eventually(tb, "the queries leave the server", func() bool { return ch.Running(tb, account) == 0 })
}
