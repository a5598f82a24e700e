package sources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sql2metrics/config"
)

// NotApplicableError says that a query was not run because the server is not
// what its requires and server_version ask for. That is no failure: it may be
// another at the next run.
type NotApplicableError struct {
	Missing []string // such as "role primary, and the server is a replica"
}

// Error implements error.
func (e *NotApplicableError) Error() string {
	return "not run here: it requires " + strings.Join(e.Missing, "; ")
}

// facts are what the gate of a query asks about a server.
type facts struct {
	product    string      // mysql or mariadb; empty for other kinds
	version    string      // as the server spells it
	role       config.Role // empty if the kind has no such thing
	extensions []string    // installed in the database
}

// admit returns a [*NotApplicableError] if r does not hold of the server.
func (f facts) admit(r config.Requires) error {
	var missing []string
	if v := r.Version; v.Product != "" && v.Product != f.product || !v.Holds(f.version) {
		missing = append(missing, fmt.Sprintf("server_version %s, and the server has %s", v, strings.TrimSpace(f.product+" "+f.version)))
	}
	switch {
	case r.Role == "" || r.Role == f.role:
	case f.role == "":
		missing = append(missing, fmt.Sprintf("role %s, and the server has none", r.Role))
	default:
		missing = append(missing, fmt.Sprintf("role %s, and the server is a %s", r.Role, f.role))
	}
	for _, e := range r.Extensions {
		if !slices.Contains(f.extensions, e) {
			missing = append(missing, "extension "+e+", which is not installed")
		}
	}
	if missing != nil {
		return &NotApplicableError{missing}
	}
	return nil
}

// admit asks the server at the other end of c what the gate of q wants to
// know, and nothing if there is none.
func (s *server[C]) admit(ctx context.Context, c C, q config.Query) error {
	switch {
	case q.Requires.IsZero():
		return nil
	case s.facts == nil:
		return fmt.Errorf("requires and server_version mean nothing to a source of type %s; delete them", s.source.Type)
	}
	f, err := s.facts(ctx, c, q)
	if err != nil {
		return fmt.Errorf("ask what the query requires: %w", err)
	}
	return f.admit(q.Requires)
}
