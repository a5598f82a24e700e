package config

import (
	"strings"
	"testing"
)

// expandConfig puts text into a field of a connection and an external label.
func expandConfig(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	return "global: {external_labels: {l: " + quoted + "}}\n" +
		"sources: [{name: db, type: postgres, user: mon, password: " + quoted + "}]\n"
}

// TestExpand: connections take ${NAME} and keep every other dollar; external
// labels follow Prometheus.
func TestExpand(t *testing.T) {
	for text, want := range map[string]struct{ password, label string }{
		"plain":              {"plain", "plain"},
		"${REGION}":          {"eu1", "eu1"},
		"a${REGION}b":        {"aeu1b", "aeu1b"},
		"$REGION":            {"$REGION", "eu1"},
		"$${REGION}":         {"${REGION}", "${REGION}"},
		"a$$b":               {"a$$b", "a$b"},
		"${REGION}${PGUSER}": {"eu1mon", "eu1mon"},
		"${PGPASSWORD}":      {"s3cr$t", "s3cr$t"}, // what comes out is not expanded again
	} {
		t.Run(text, func(t *testing.T) {
			c, err := load("main.yml", []byte(expandConfig(text)), Options{Getenv: testEnv})
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Sources[0].Password.Reveal(); got != want.password {
				t.Errorf("password: got %q, want %q", got, want.password)
			}
			if got := c.Global.ExternalLabels.Get("l"); got != want.label {
				t.Errorf("external label: got %q, want %q", got, want.label)
			}
		})
	}
}

// TestExpandOfTheProcess: without Options.Getenv it is the process's own
// environment.
func TestExpandOfTheProcess(t *testing.T) {
	t.Setenv("SQL2METRICS_TEST", "here")
	c, err := load("main.yml", []byte(expandConfig("${SQL2METRICS_TEST}")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sources[0].Password.Reveal(); got != "here" {
		t.Errorf("got %q", got)
	}
}
