package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/mattn/go-isatty"

	"sql2metrics/wal"
)

const (
	demoExternalLabel = "demo"
	// demoCycle is how long one round of the demo's story takes when it runs
	// until interrupted.
	demoCycle = time.Minute
	// demoStopTime is how long a stopping agent may take.
	demoStopTime = 20 * time.Second
)

func addDemo(app *kingpin.Application) (string, command) {
	cmd := app.Command("demo", "Show that nothing is lost: a database under load, an agent that is killed, a receiver that is cut off, and the ledger of it.")
	duration := cmd.Flag("duration", "How long; 0 until interrupted.").Default("30s").Duration()
	return cmd.FullCommand(), func(g *global) error {
		if *duration < 0 {
			return fmt.Errorf("--duration is %s; it is how long, or 0 until interrupted", *duration)
		}
		ctx, stop := interruptible(g)
		defer stop()
		return runDemo(ctx, g.stdout, *duration)
	}
}

var demoConfig = template.Must(template.New("demo").Parse(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
  external_labels: {demo: "yes"}
remote_write:
  - url: http://{{.Receiver}}/api/v1/write
    name: demo
    queue_config: {batch_send_deadline: 1s, min_backoff: 100ms, max_backoff: 1s}
storage: {path: {{.Folder}}/log}
self: {interval: 1s}
sources:
  - {name: shop, type: sqlite, path: {{.Folder}}/shop.db, collectors: [shop]}
collectors:
  - collector_name: shop
    queries:
      - query_name: by_status
        query: SELECT status, region, count(*) AS n, sum(amount) AS amount FROM orders GROUP BY 1, 2
    metrics:
      - {metric_name: shop_orders, type: gauge, help: Orders by status., key_labels: [status, region], values: [n], query_ref: by_status}
      - {metric_name: shop_orders_amount, type: gauge, help: Money in orders., key_labels: [status, region], values: [amount], query_ref: by_status}
      - metric_name: shop_orders_taken_total
        type: counter
        help: Orders ever taken.
        values: [n]
        query: SELECT max(id) AS n FROM orders
`))

// demo is a running demo.
type demo struct {
	screen   *screen
	folder   string
	address  string // of the agent's page
	logs     *os.File
	agent    *exec.Cmd
	receiver *demoReceiver
	ledger   *ledger
	follower *follower
}

// runDemo plays the demo in a temporary folder, which it removes unless
// something was lost. It returns an error if anything was.
func runDemo(ctx context.Context, out io.Writer, duration time.Duration) (err error) {
	folder, err := os.MkdirTemp("", "sql2metrics-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	d := &demo{screen: newScreen(out), folder: folder, ledger: newLedger()}
	defer func() {
		if err == nil {
			err = os.RemoveAll(folder)
		} else {
			d.screen.say("kept for a look: %s", folder)
		}
	}()
	shop, err := openWorkload(ctx, folder)
	if err != nil {
		return err
	}
	defer shop.close()
	if err := d.prepare(); err != nil {
		return err
	}
	defer d.logs.Close()

	working, stopWorking := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() { worked <- shop.run(working) }()
	playErr := d.play(ctx, duration)
	stopWorking()
	return errors.Join(playErr, <-worked, d.end())
}

// prepare starts the receiver and writes the agent's configuration.
func (d *demo) prepare() (err error) {
	if d.receiver, err = startReceiver(d.ledger); err != nil {
		return fmt.Errorf("start the demo's receiver: %w", err)
	}
	if d.address, err = freeAddress(); err != nil {
		return err
	}
	if d.logs, err = os.Create(filepath.Join(d.folder, "agent.log")); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := demoConfig.Execute(&text, struct{ Receiver, Folder string }{d.receiver.addr, d.folder}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.folder, "sql2metrics.yml"), text.Bytes(), 0o600)
}

// play tells the story: the receiver is cut off, the agent is killed
// meanwhile and started again, the receiver comes back. Without a duration it
// is told again and again.
func (d *demo) play(ctx context.Context, duration time.Duration) error {
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	r, err := wal.Read(filepath.Join(d.folder, "log"))
	if err != nil {
		return fmt.Errorf("read the agent's log: %w", err)
	}
	d.follower = &follower{ledger: d.ledger, reader: r}
	d.screen.say("agent     pid %d, http://%s/metrics, its log in %s", d.agent.Process.Pid, d.address, d.logs.Name())
	d.screen.say("receiver  http://%s/api/v1/write", d.receiver.addr)
	d.screen.say("database  %s, SQLite, orders coming in", filepath.Join(d.folder, "shop.db"))
	cycle := duration
	if duration == 0 {
		cycle = demoCycle
	}
	start := time.Now()
	for {
		for _, scene := range []struct {
			at   float64 // part of the cycle
			play func() error
		}{
			{0.20, d.cutOff},
			{0.35, d.kill},
			{0.40, func() error { return d.restart(ctx) }},
			{0.60, d.reconnect},
			{1.00, func() error { return nil }},
		} {
			interrupted, err := d.watch(ctx, start.Add(time.Duration(scene.at*float64(cycle))))
			if err != nil || interrupted {
				return err
			}
			if err := scene.play(); err != nil {
				return err
			}
		}
		if duration != 0 {
			return nil
		}
		start = start.Add(cycle)
		d.ledger.settle()
	}
}

// watch shows the numbers until a time, or until ctx ends.
func (d *demo) watch(ctx context.Context, until time.Time) (interrupted bool, err error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(until) {
		select {
		case <-ctx.Done():
			return true, nil
		case <-tick.C:
		}
		if err := d.follower.read(); err != nil {
			return false, err
		}
		t, _ := d.ledger.sum()
		d.screen.show("appended %d, received %d, waiting %d", t.appended, t.received-t.duplicated, t.lost)
	}
	return false, nil
}

func (d *demo) cutOff() error {
	d.receiver.cut.Store(true)
	d.screen.say("receiver cut off: requests break")
	return nil
}

func (d *demo) kill() error {
	d.screen.say("agent killed with SIGKILL, pid %d", d.agent.Process.Pid)
	if err := d.agent.Process.Kill(); err != nil {
		return fmt.Errorf("kill the agent: %w", err)
	}
	var exit *exec.ExitError
	if err := d.agent.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	d.agent = nil
	return nil
}

func (d *demo) restart(ctx context.Context) error {
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	d.screen.say("agent started again, pid %d", d.agent.Process.Pid)
	return nil
}

func (d *demo) reconnect() error {
	d.receiver.cut.Store(false)
	d.screen.say("receiver back")
	return nil
}

// startAgent starts this program again as the agent and waits until it is
// ready. It gets a process group of its own, so that the terminal's interrupt
// reaches the demo alone.
func (d *demo) startAgent(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	d.agent = exec.Command(self, "run", "--config.file="+filepath.Join(d.folder, "sql2metrics.yml"), "--web.listen-address="+d.address)
	d.agent.Stdout, d.agent.Stderr = d.logs, d.logs
	d.agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.agent.Start(); err != nil {
		d.agent = nil
		return fmt.Errorf("start the agent: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, demoStopTime)
	defer cancel()
	for !ready(ctx, d.address) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent is not ready; see %s", d.logs.Name())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func ready(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/-/ready", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// end stops the agent, which ships what is left, and prints the ledger.
func (d *demo) end() error {
	d.receiver.cut.Store(false)
	stopErr := d.stopAgent()
	var followErr error
	if d.follower != nil {
		followErr = errors.Join(d.follower.read(), d.follower.reader.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), demoStopTime)
	defer cancel()
	receiverErr := d.receiver.stop(ctx)
	if err := errors.Join(stopErr, followErr, receiverErr); err != nil {
		return err
	}
	d.screen.clear()
	all, err := d.ledger.print(d.screen.out)
	switch {
	case err != nil:
		return err
	case all.lost > 0:
		return fmt.Errorf("demo: lost %d samples", all.lost)
	case all.appended == 0:
		return errors.New("demo: nothing was appended")
	}
	return nil
}

func (d *demo) stopAgent() error {
	if d.agent == nil {
		// Interrupted between kill and restart: what is on disk still wants
		// to be shipped.
		if err := d.startAgent(context.Background()); err != nil {
			return err
		}
	}
	if err := d.agent.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the agent: %w", err)
	}
	hurry := time.AfterFunc(demoStopTime, func() { _ = d.agent.Process.Kill() })
	defer hurry.Stop()
	if err := d.agent.Wait(); err != nil {
		return fmt.Errorf("the agent did not stop cleanly (see %s): %w", d.logs.Name(), err)
	}
	return nil
}

// freeAddress returns an address that nobody uses, for an agent that is to have
// it again after its restart. Its port is none of those from which systems take
// those of clients, who could have it in between.
func freeAddress() (string, error) {
	const first, last = 10000, 32000
	var err error
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.N(last-first))); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// screen shows progress: on a terminal one line that changes, elsewhere a
// plain line every now and then.
type screen struct {
	out      io.Writer
	terminal bool
	start    time.Time
	shown    time.Time
}

const plainEvery = 5 * time.Second

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	now := time.Now()
	return &screen{out: out, terminal: ok && isatty.IsTerminal(f.Fd()), start: now, shown: now}
}

// say prints a line that stays.
func (s *screen) say(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.out, "%5.1fs  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// show prints a line that the next one replaces.
func (s *screen) show(format string, args ...any) {
	switch {
	case s.terminal:
		fmt.Fprintf(s.out, "\r\033[K%5.1fs  %s", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
	case time.Since(s.shown) >= plainEvery:
		s.shown = time.Now()
		s.say(format, args...)
	}
}

func (s *screen) clear() {
	if s.terminal {
		fmt.Fprint(s.out, "\r\033[K")
	}
}
