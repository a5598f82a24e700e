package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sql2metrics/e2e/receiver"
	"sql2metrics/e2e/servers"
)

// TestReadme does what README.md says, with its own configuration, statements
// and commands. Only where the two servers are, and the password, are changed.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	pg := servers.Postgres(t)
	r := receiver.Start(t, receiver.Options{})
	pg.Exec(t, "CREATE TABLE orders (status text, region text, amount numeric)",
		"INSERT INTO orders VALUES ('open', 'eu', 12.5), ('open', 'eu', 7.5), ('paid', 'us', 3)")
	for _, statements := range blocks(text, "sql") {
		pg.Exec(t, replace(t, statements, "PASSWORD '…'", "PASSWORD 'secret'"))
	}
	dir := t.TempDir()
	configuration := blocks(text, "yaml")[0]
	configuration = replace(t, configuration, "host: 127.0.0.1", fmt.Sprintf("host: %s\n    port: %d", pg.Host, pg.Port))
	configuration = replace(t, configuration, "database: app", "database: postgres")
	configuration = regexp.MustCompile(`- url: \S+`).ReplaceAllLiteralString(configuration, "- url: "+r.URL())
	write(t, filepath.Join(dir, "sql2metrics.yml"), configuration, 0o644)
	for _, found := range regexp.MustCompile(`password_file: ([\w.]+)`).FindAllStringSubmatch(configuration, -1) {
		write(t, filepath.Join(dir, found[1]), "secret\n", 0o600)
	}
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "bin", "sql2metrics")); err != nil {
		t.Fatal(err)
	}

	ran := 0
	for _, block := range blocks(text, "sh") {
		for line := range strings.Lines(block) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "make "):
				if out, err := inFolder("..", line+" --dry-run").CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			case strings.HasSuffix(line, " run"):
				// Not on the default port: somebody may have an agent here.
				runUntilReceived(t, inFolder(dir, "exec "+line+" --web.listen-address=127.0.0.1:0"), r)
			default:
				out, err := inFolder(dir, line).CombinedOutput()
				if err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
				if strings.Contains(line, " query ") && !strings.Contains(string(out), "20") {
					t.Errorf("%s does not show the amount of 20:\n%s", line, out)
				}
			}
			ran++
		}
	}
	if ran < 5 {
		t.Errorf("README.md has %d commands in ```sh blocks; did their form change?", ran)
	}
}

// runUntilReceived runs an agent until what it collects has arrived.
func runUntilReceived(t *testing.T, cmd *exec.Cmd, r *receiver.Receiver) {
	t.Helper()
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", cmd, err, said.String())
		}
	}()
	eventually(t, "orders to arrive", func() error { return atLeast(len(r.Samples(t, "orders")), 2) })
}

// blocks returns the fenced code blocks of a language.
func blocks(text []byte, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllSubmatch(text, -1) {
		found = append(found, string(m[1]))
	}
	return found
}

// replace replaces what must be there.
func replace(t *testing.T, text, old, with string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in:\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, with)
}

func inFolder(dir, line string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	return cmd
}
