package agent

import (
	"log/slog"
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// The alert rules of the docs are what a ruler takes.
func TestDocumentedAlerts(t *testing.T) {
	docs, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile("(?s)```yaml\n(groups:\n.*?)```").FindSubmatch(docs)
	if rules == nil {
		t.Fatal("docs/metrics.md has no rules")
	}
	groups, errs := rulefmt.Parse(rules[1], false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil || len(groups.Groups) != 1 || len(groups.Groups[0].Rules) < 7 {
		t.Errorf("the rules are %+v", groups)
	}
}
