package agent

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sql2metrics/wal"
)

// TestEndpointsAcrossStarts starts an agent again and again with other
// endpoints: one that is renamed keeps its cursor, and one that is new does
// not take over what was removed before.
func TestEndpointsAcrossStarts(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "1000000")
	}))
	t.Cleanup(receiver.Close)
	c := newShop(t, receiver.URL)
	one := c.RemoteWrite[0]
	for _, step := range []struct {
		why       string
		endpoints []string
		orphans   map[string]bool // of all cursors
	}{
		{"the first start", []string{"first", "second"}, map[string]bool{"first": false, "second": false}},
		{"one is renamed", []string{"renamed", "second"}, map[string]bool{"renamed": false, "second": false}},
		{"one is removed", []string{"renamed"}, map[string]bool{"renamed": false, "second": true}},
		{"one is added", []string{"renamed", "added"}, map[string]bool{"renamed": false, "second": true, "added": false}},
	} {
		c.RemoteWrite = nil
		for _, name := range step.endpoints {
			e := one
			e.Name = name
			c.RemoteWrite = append(c.RemoteWrite, e)
		}
		page, stop := startAgent(t, c)
		await(t, page+"/-/ready", "is ready")
		o, err := wal.Inspect(c.Storage.Path)
		if err != nil {
			t.Fatal(err)
		}
		stop()
		got := map[string]bool{}
		for _, cursor := range o.Cursors {
			got[cursor.Name] = cursor.Orphan
		}
		if d := cmp.Diff(step.orphans, got); d != "" {
			t.Errorf("%s: cursors, and whether they are orphans (-want +got):\n%s", step.why, d)
		}
	}
}
