package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// The methods of this file read one value each. They set what they are given,
// or report why not and leave it as it was.

// text returns a scalar as it is written: 1.10 stays 1.10. It reports lists,
// mappings and nulls.
func (n node) text() (string, bool) {
	if n.isNull() {
		n.fail("has no value", "write one, or delete the field")
		return "", false
	}
	if n.yaml.Kind != yaml.ScalarNode {
		n.wrongType("text", "one value")
		return "", false
	}
	switch n.yaml.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge":
		return n.yaml.Value, true
	}
	n.fail(fmt.Sprintf("has the unknown tag %s", n.yaml.Tag), "remove the tag")
	return "", false
}

// string sets *into to a text that is not empty.
func (n node) string(into *string) {
	s, ok := n.text()
	if ok && n.notEmpty(s) {
		*into = s
	}
}

func (n node) notEmpty(s string) bool {
	if s == "" {
		n.fail("is empty", "write a value, or delete the field")
	}
	return s != ""
}

// texts returns the items of a list of texts, each with its place.
func (n node) texts() []entry {
	var all []entry
	for _, item := range n.list() {
		var s string
		if item.string(&s); s != "" {
			all = append(all, entry{s, item})
		}
	}
	return all
}

// keys returns the names of entries in their order.
func keys(entries []entry) []string {
	var names []string
	for _, e := range entries {
		names = append(names, e.key)
	}
	return names
}

// bool sets *into. It takes YAML 1.1's yes and no as well, because
// Prometheus does and files are pasted from there.
func (n node) bool(into *bool) {
	s, ok := n.text()
	if !ok {
		return
	}
	switch strings.ToLower(s) {
	case "true", "yes", "on":
		*into = true
	case "false", "no", "off":
		*into = false
	default:
		n.wrongType("true or false", "true or false")
	}
}

// int sets *into to a whole number of at least least.
func (n node) int(least int, into *int) {
	s, ok := n.text()
	if !ok {
		return
	}
	i, err := strconv.Atoi(s)
	switch {
	case err != nil:
		n.fail("is not a whole number", fmt.Sprintf("write a number from %d up", least))
	case i < least:
		n.fail(fmt.Sprintf("is %d", i), fmt.Sprintf("write a number from %d up", least))
	default:
		*into = i
	}
}

// number sets *into to a number, which may be infinite. It is not NaN: that
// would make two configurations that are written alike different ones.
func (n node) number(into *float64) {
	s, ok := n.text()
	if !ok {
		return
	}
	x, err := parseNumber(s)
	if err != nil || math.IsNaN(x) {
		n.fail(fmt.Sprintf("%q is not a number", s), "write one, such as 0.5")
		return
	}
	*into = x
}

// parseNumber reads a number in Go's spelling, or YAML's of those that are none.
func parseNumber(s string) (float64, error) {
	switch strings.ToLower(s) {
	case ".inf", "+.inf":
		return math.Inf(1), nil
	case "-.inf":
		return math.Inf(-1), nil
	case ".nan":
		return math.NaN(), nil
	}
	return strconv.ParseFloat(s, 64)
}

// maxDuration bounds durations, so that three times one, or one from now on, is
// within what a time holds.
const maxDuration = 50 * 365 * 24 * time.Hour

// duration sets *into to a duration above zero.
func (n node) duration(into *time.Duration) {
	var d time.Duration
	if !n.anyDuration(&d) {
		return
	}
	if d == 0 {
		n.fail("is zero", "write a duration above zero, such as 30s")
		return
	}
	*into = d
}

// anyDuration sets *into to a duration in Prometheus's spelling, or zero.
func (n node) anyDuration(into *time.Duration) bool {
	s, ok := n.text()
	if !ok {
		return false
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		n.fail(fmt.Sprintf("%q is not a duration", s), "write whole numbers with units, such as 30s, 1m30s or 500ms")
		return false
	}
	if time.Duration(d) > maxDuration {
		n.fail(s+" is too long", fmt.Sprintf("write at most %s", prometheusDuration(maxDuration)))
		return false
	}
	*into = time.Duration(d)
	return true
}

// byteUnits are the suffixes of a size, the longer before those they end in.
var byteUnits = []struct {
	suffix string
	shift  uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"B", 0}, {"", 0}}

// bytes sets *into to a size above zero.
func (n node) bytes(into *int64) {
	const remedy = "write a size above zero in B, KiB, MiB, GiB or TiB, such as 256MiB, or a plain number of bytes"
	s, ok := n.text()
	if !ok {
		return
	}
	for _, u := range byteUnits {
		digits, found := strings.CutSuffix(s, u.suffix)
		if !found {
			continue
		}
		size, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || size <= 0 || size > math.MaxInt64>>u.shift {
			break
		}
		*into = size << u.shift
		return
	}
	n.fail(fmt.Sprintf("%q is not a size", s), remedy)
}

// oneOf sets *into to one of the values, in whatever case it is written:
// Prometheus and sql_exporter do not look at the case of theirs.
func oneOf[T ~string](n node, into *T, values ...T) {
	s, ok := n.text()
	if !ok {
		return
	}
	known := make([]string, len(values))
	for i, v := range values {
		if strings.EqualFold(s, string(v)) {
			*into = v
			return
		}
		known[i] = string(v)
	}
	n.fail(fmt.Sprintf("%q is not known here", s), "write "+orList(known))
}
