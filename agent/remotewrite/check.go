package remotewrite

import (
	"fmt"

	"sql2metrics/config"
)

// Check tells whether an endpoint could be opened as far as its settings go: it
// makes its HTTP client and asks nobody.
func Check(e config.RemoteWrite) error {
	c, err := newClient(e, "")
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", e.Name, err)
	}
	c.http.CloseIdleConnections()
	return nil
}
