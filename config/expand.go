package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// reference is ${NAME}; with a dollar before it, it is literal.
var reference = regexp.MustCompile(`\$?\$\{([^}]*)\}`)

// expand sets *into to the field's text with each ${NAME} replaced by the
// environment variable. Every other dollar stays, as passwords have them;
// $${NAME} is a literal ${NAME}. Unset variables and an empty result are
// reported. The value is never printed.
func (n node) expand(into *string) {
	s, ok := n.text()
	if !ok {
		return
	}
	s = reference.ReplaceAllStringFunc(s, func(match string) string {
		if strings.HasPrefix(match, "$$") {
			return match[1:]
		}
		v, set := n.variable(match[2 : len(match)-1])
		ok = ok && set
		return v
	})
	if ok && n.notEmpty(s) {
		*into = s
	}
}

// expandAsPrometheus is expand for external_labels, where Prometheus replaces
// $NAME as well as ${NAME} and takes $$ for a dollar.
func (n node) expandAsPrometheus(into *string) {
	s, ok := n.text()
	if !ok {
		return
	}
	s = os.Expand(s, func(name string) string {
		if name == "$" {
			return "$"
		}
		v, set := n.variable(name)
		ok = ok && set
		return v
	})
	if ok && n.notEmpty(s) {
		*into = s
	}
}

// secret is expand into a Secret.
func (n node) secret(into *Secret) {
	var s string
	if n.expand(&s); s != "" {
		*into = NewSecret(s)
	}
}

// variable looks up an environment variable and reports one that is not set.
func (n node) variable(name string) (string, bool) {
	v, set := n.in.load.getenv(name)
	if !set {
		n.fail(fmt.Sprintf("environment variable %q is not set", name), "set it, or write a second dollar before it to keep the text as it is")
	}
	return v, set
}
