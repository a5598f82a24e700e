package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// setup is what an agent is started with.
type setup struct {
	config  string   // YAML
	storage string   // the data folder; default: a new one
	flags   []string // more of them
	uid     uint32   // whose process it is; default: that of the tests
}

// agent is a process of the real binary.
type agent struct {
	cmd     *exec.Cmd
	output  *output
	exited  chan struct{} // closed when it has, with all output taken
	storage string
	addr    string // of the web server, once it answers
}

// launch starts `sql2metrics run` and waits for nothing. The process ends with
// the test, and its log is shown if the test failed.
func launch(t testing.TB, s setup) *agent {
	t.Helper()
	if s.storage == "" {
		s.storage = filepath.Join(t.TempDir(), "data")
	}
	file := filepath.Join(t.TempDir(), "config.yml")
	if s.uid != 0 { // who may not look into the tests' folders
		file = filepath.Join(filepath.Dir(s.storage), "config.yml")
	}
	if err := os.WriteFile(file, []byte(s.config), 0o644); err != nil {
		t.Fatal(err)
	}
	a := command(t, s.uid, append([]string{
		"run",
		"--config.file=" + file,
		"--storage.path=" + s.storage,
		"--web.listen-address=127.0.0.1:0",
		"--log.level=debug",
		"--log.format=json",
	}, s.flags...)...)
	a.storage = s.storage
	return a
}

// command starts the binary with the arguments. It ends with the test.
func command(t testing.TB, uid uint32, args ...string) *agent {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return run(t, cmd)
}

// run starts a command that ends with the test.
func run(t testing.TB, cmd *exec.Cmd) *agent {
	t.Helper()
	a := &agent{cmd: cmd, output: &output{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = a.output, a.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		a.kill()
		text := a.output.String()
		if strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic:") {
			t.Error("the agent raced or panicked")
		}
		if t.Failed() {
			t.Logf("output of process %d:\n%s", a.cmd.Process.Pid, tail(text, 200))
		}
	})
	return a
}

// start launches an agent and waits until it is ready.
func start(t testing.TB, s setup) *agent {
	t.Helper()
	a := launch(t, s)
	a.waitReady(t)
	return a
}

// waitReady waits until the agent's web server says that it is ready.
func (a *agent) waitReady(t testing.TB) {
	t.Helper()
	a.waitFor(t, "/-/ready")
}

// waitFor waits until the agent's web server answers a page.
func (a *agent) waitFor(t testing.TB, page string) {
	t.Helper()
	eventually(t, "the agent to answer "+page, func() error {
		if a.hasExited() {
			t.Fatalf("the agent exited with %d", a.cmd.ProcessState.ExitCode())
		}
		if a.addr == "" {
			address, ok := a.logged("Listening")["address"].(string)
			if !ok {
				return errors.New("it does not listen")
			}
			a.addr = address
		}
		_, err := a.get(page)
		return err
	})
}

func (a *agent) hasExited() bool {
	select {
	case <-a.exited:
		return true
	default:
		return false
	}
}

// kill sends SIGKILL and waits for the end.
func (a *agent) kill() {
	_ = a.cmd.Process.Kill()
	<-a.exited
}

// signal sends a signal and waits for nothing.
func (a *agent) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// stop sends SIGTERM and expects the agent to exit with 0.
func (a *agent) stop(t testing.TB) {
	t.Helper()
	a.signal(t, syscall.SIGTERM)
	if code := a.exitCode(t); code != 0 {
		t.Fatalf("after SIGTERM: exit code %d, want 0", code)
	}
}

// exitCode waits until the process has ended, and returns its exit code.
func (a *agent) exitCode(t testing.TB) int {
	t.Helper()
	eventually(t, "the process to exit", func() error {
		if !a.hasExited() {
			return errors.New("it runs")
		}
		return nil
	})
	return a.cmd.ProcessState.ExitCode()
}

// get returns the body of a page of the agent's web server.
func (a *agent) get(path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + a.addr + path)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, res.Status, body)
	}
	return body, err
}

// metrics returns the samples of /metrics by series, as they are printed.
func (a *agent) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	body, err := a.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return samplesOf(t, string(body))
}

// samplesOf returns the samples of a page by series, as they are printed.
func samplesOf(t testing.TB, page string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(page) {
		series, value, ok := cutLast(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || !ok {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("/metrics: line %q: %v", line, err)
		}
		all[series] = v
	}
	return all
}

// sum adds up the values of all series of one name.
func sum(metrics map[string]float64, name string, matchers ...string) float64 {
	var total float64
next:
	for series, v := range metrics {
		if !strings.HasPrefix(series, name+"{") && series != name {
			continue
		}
		for _, m := range matchers {
			if !strings.Contains(series, m) {
				continue next
			}
		}
		total += v
	}
	return total
}

// logged returns the first line of the agent's log whose message begins so, or
// nil.
func (a *agent) logged(msg string) map[string]any {
	lines := bufio.NewScanner(strings.NewReader(a.output.String()))
	for lines.Scan() {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if text, _ := line["msg"].(string); strings.HasPrefix(text, msg) {
			return line
		}
	}
	return nil
}

// output takes what a process writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String returns what was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// tail returns the last n lines of a text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
