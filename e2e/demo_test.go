package e2e

import (
	"regexp"
	"testing"
)

// TestDemo runs the demo short: it kills its own agent, cuts its own receiver
// off, and counts what was lost.
func TestDemo(t *testing.T) {
	t.Parallel()
	a := command(t, 0, "demo", "--duration=10s")
	if code := a.exitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if !regexp.MustCompile(`(?m)\blost\s+0$`).MatchString(a.output.String()) {
		t.Error("the demo does not end with lost 0")
	}
}
