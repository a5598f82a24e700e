package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

var relabelTable = table[relabel.Config]{
	fields: map[string]func(node, *relabel.Config){
		"source_labels": func(n node, c *relabel.Config) { c.SourceLabels = n.sourceLabels() },
		"separator":     func(n node, c *relabel.Config) { n.anyText(&c.Separator) },
		"regex":         func(n node, c *relabel.Config) { n.regex(&c.Regex) },
		"modulus":       func(n node, c *relabel.Config) { n.modulus(&c.Modulus) },
		"target_label":  func(n node, c *relabel.Config) { n.string(&c.TargetLabel) },
		"replacement":   func(n node, c *relabel.Config) { n.anyText(&c.Replacement) },
		"action":        func(n node, c *relabel.Config) { n.relabelAction(&c.Action) },
	},
}

// relabelConfigs returns write_relabel_configs with Prometheus's defaults.
func (n node) relabelConfigs() []*relabel.Config {
	var all []*relabel.Config
	for _, item := range n.list() {
		if item.isNull() {
			item.fail("the rule is empty", "write its action, or delete it")
			continue
		}
		c := relabel.DefaultRelabelConfig
		before := len(n.in.load.errs)
		decode(item, relabelTable, &c)
		if len(n.in.load.errs) > before {
			continue
		}
		if err := c.Validate(model.UTF8Validation); err != nil {
			item.fail(err.Error(), "correct the rule; the fields mean what they do in Prometheus")
			continue
		}
		all = append(all, &c)
	}
	return all
}

// anyText sets *into to a text that may be empty.
func (n node) anyText(into *string) {
	if s, ok := n.text(); ok {
		*into = s
	}
}

func (n node) sourceLabels() model.LabelNames {
	var names model.LabelNames
	for _, e := range n.texts() {
		names = append(names, model.LabelName(e.key))
	}
	return names
}

func (n node) regex(into *relabel.Regexp) {
	s, ok := n.text()
	if !ok {
		return
	}
	re, err := relabel.NewRegexp(s)
	// Prometheus's anchors around it would show in the error, and would make a
	// whole of "a)(b".
	if _, alone := regexp.Compile(s); alone != nil {
		err = alone
	}
	if err != nil {
		n.fail(fmt.Sprintf("%q is not a regular expression: %s", s, strings.TrimPrefix(err.Error(), "error parsing regexp: ")),
			"correct it; the syntax is RE2's")
		return
	}
	*into = re
}

func (n node) modulus(into *uint64) {
	s, ok := n.text()
	if !ok {
		return
	}
	m, err := strconv.ParseUint(s, 10, 64)
	if err != nil || m == 0 {
		n.fail("is not a whole number above zero", "write the number of parts to divide series into")
		return
	}
	*into = m
}

func (n node) relabelAction(into *relabel.Action) {
	oneOf(n, into, relabel.Replace, relabel.Keep, relabel.Drop, relabel.KeepEqual, relabel.DropEqual,
		relabel.HashMod, relabel.LabelMap, relabel.LabelDrop, relabel.LabelKeep, relabel.Lowercase, relabel.Uppercase)
}
