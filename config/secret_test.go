package config

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestSecretIsNeverShown prints a secret, alone and inside of things, in every
// way that a mistake might.
func TestSecretIsNeverShown(t *testing.T) {
	const value = "hunter2"
	type outer struct {
		Exported   Secret
		unexported Secret
		pointer    *Secret
		list       []Secret
		byName     map[string]Secret
		any        any
	}
	s := NewSecret(value)
	things := map[string]any{
		"value":   s,
		"pointer": &s,
		"list":    []Secret{s},
		"map":     map[string]Secret{"password": s},
		"struct":  outer{s, s, &s, []Secret{s}, map[string]Secret{"a": s}, s},
		"config":  Source{DSN: s, Password: s},
		"holder":  struct{ c Config }{Config{Sources: []Source{{DSN: s}}}},
	}
	for name, thing := range things {
		for how, print := range printers {
			t.Run(name+"/"+how, func(t *testing.T) {
				for _, out := range print(thing) {
					for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value), fmt.Sprint([]byte(value))} {
						if strings.Contains(out, form) {
							t.Fatalf("shown in %s", out)
						}
					}
				}
			})
		}
	}
}

// printers are the ways by which a value becomes text.
var printers = map[string]func(any) []string{
	"fmt": func(v any) (all []string) {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			for _, flag := range []string{"", "+", "#", "-20", "020", " ", ".3"} {
				all = append(all, fmt.Sprintf("%"+flag+string(verb), v))
			}
		}
		return append(all, fmt.Sprint(v), fmt.Sprintln(v), fmt.Errorf("load: %v", v).Error())
	},
	"json": func(v any) []string {
		out, err := json.Marshal(v)
		return []string{string(out), fmt.Sprint(err)}
	},
	"yaml": func(v any) []string {
		out, err := yaml.Marshal(v)
		return []string{string(out), fmt.Sprint(err)}
	},
	"xml": func(v any) []string {
		out, err := xml.Marshal(v)
		return []string{string(out), fmt.Sprint(err)}
	},
	"slog": func(v any) []string {
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("start", "secret", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("start", "secret", v)
		return []string{text.String(), js.String()}
	},
}

// TestConfigShowsNoSecret prints whole configurations, in which many secrets
// are in Prometheus's types.
func TestConfigShowsNoSecret(t *testing.T) {
	unexported := func(v any) []string {
		return []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v)}
	}
	for _, file := range []string{"full", "endpoints", "scrape"} {
		c, err := Load("testdata/good/"+file+".yml", Options{Getenv: testEnv})
		if err != nil {
			t.Fatal(err)
		}
		texts := map[string][]string{
			"fmt pointer":   printers["fmt"](c),
			"fmt value":     printers["fmt"](*c),
			"fmt endpoints": printers["fmt"](c.RemoteWrite),
			"fmt sources":   printers["fmt"](c.Sources),
			"json":          printers["json"](c),
			"yaml":          printers["yaml"](c),
			"xml":           printers["xml"](c),
			"slog":          printers["slog"](c),
			"unexported":    unexported(struct{ c Config }{*c}),
		}
		for _, e := range c.RemoteWrite {
			for how, print := range printers {
				texts[how+" endpoint "+e.Name] = append(print(e), print(&e)...)
			}
			texts["unexported "+e.Name] = unexported(struct{ e RemoteWrite }{e})
		}
		for _, s := range c.Sources {
			for how, print := range printers {
				texts[how+" source "+s.Name] = append(print(s), print(&s)...)
			}
			texts["unexported "+s.Name] = unexported(struct{ s Source }{s})
		}
		for name, out := range texts {
			t.Run(file+"/"+name, func(t *testing.T) {
				for _, text := range out {
					for _, value := range []string{"s3cr$t", "s3cr%24t", "pa$$word", "${literal}"} {
						if strings.Contains(text, value) {
							t.Fatalf("%q is shown in %s", value, text)
						}
					}
				}
			})
		}
	}
}

// TestSecretValue: what the value can be asked.
func TestSecretValue(t *testing.T) {
	for name, c := range map[string]struct {
		secret Secret
		value  string
		set    bool
		prints string
	}{
		"set":   {NewSecret("x"), "x", true, "<secret>"},
		"empty": {NewSecret(""), "", false, ""},
		"zero":  {Secret{}, "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if c.secret.Reveal() != c.value || c.secret.IsSet() != c.set || c.secret.String() != c.prints {
				t.Errorf("got %q, %v, %q", c.secret.Reveal(), c.secret.IsSet(), c.secret.String())
			}
			if !c.secret.Equal(NewSecret(c.value)) || c.secret.Equal(NewSecret("other")) {
				t.Error("Equal does not compare values")
			}
		})
	}
}
