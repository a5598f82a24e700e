package remotewrite

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/wal"
)

// heap is what is alive after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestOneEndpointDead has one of two endpoints dead for the whole test. The
// other one goes on, and what waits for the dead one is on disk.
func TestOneEndpointDead(t *testing.T) {
	const (
		most  = 32 << 20 // of heap for both, however long the outage: mostly the dead one's window
		grows = 4 << 20  // by an outage twice as long
	)
	j := openJournal(t, t.TempDir(), wal.Options{})
	live, dead := newFake(t), newFake(t)
	live.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerSamplesWritten, "100000")
	})
	dead.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	before := heap()
	ships := map[string]ship{}
	for name, f := range map[string]*fake{"live": live, "dead": dead} {
		e := endpoint(t, f.URL)
		e.Name = name
		ships[name] = newShip(t, Options{Endpoint: e, Log: j.Log})
	}
	due := j.family("due", 5000)
	now := epoch
	var half uint64
	for i := range 120 {
		now = now.Add(15 * time.Second)
		j.append(now, round(due, now, float64(i))...)
		for name, s := range ships {
			s.step(now)
			if name == "live" {
				s.drain(now.Add(10 * time.Second))
			}
		}
		if i == 60 {
			half = heap()
		}
	}
	if p := ships["live"].cursor.Position(); p.Seq != j.Stats().Synced.Seq {
		t.Errorf("the live endpoint's cursor is at %d, and the newest frame is %d", p.Seq, j.Stats().Synced.Seq)
	}
	if p := ships["dead"].cursor.Position(); p.Seq != 0 {
		t.Errorf("the dead endpoint's cursor has moved to %d", p.Seq)
	}
	l, d := ships["live"].balance(), ships["dead"].balance()
	if l.Sent.Samples != 600_000 || d.Pending.Samples != 600_000 {
		t.Errorf("ledgers are %+v and %+v, want 600000 samples sent, and pending", l, d)
	}
	after := heap()
	t.Logf("heap: %d KiB before, %d after 300,000 samples, %d after 600,000", before>>10, half>>10, after>>10)
	if after > before+most || after > half+grows {
		t.Errorf("%d bytes of heap, want at most %d more than the %d before, and %d more than the %d halfway", after, most, before, grows, half)
	}
}

// TestTenantPerSource has two endpoints keep the series of one job each.
func TestTenantPerSource(t *testing.T) {
	j := openJournal(t, t.TempDir(), wal.Options{})
	tenants := map[string]*fake{"orders": newFake(t), "billing": newFake(t)}
	ships := map[string]ship{}
	for tenant, f := range tenants {
		e := endpoint(t, f.URL)
		e.Name = tenant
		e.WriteRelabel = []*relabel.Config{rule(t, relabel.Config{
			Action: relabel.Keep, SourceLabels: model.LabelNames{"job"}, Regex: relabel.MustNewRegexp(tenant),
		})}
		ships[tenant] = newShip(t, Options{Endpoint: e, Log: j.Log})
	}
	var all []*wal.Series
	for _, job := range []string{"orders", "billing", "other"} {
		for _, name := range []string{"rows", "up"} {
			all = append(all, j.Series(labels.FromStrings("__name__", name, "job", job), wal.Metadata{}))
		}
	}
	j.append(epoch, round(all, epoch, 1)...)
	for tenant, s := range ships {
		s.drain(epoch.Add(time.Minute))
		lines := tenants[tenant].lines()
		if len(lines) != 2 || strings.Count(strings.Join(lines, "\n"), `job="`+tenant+`"`) != 2 {
			t.Errorf("tenant %s got %q, want the two series of its source", tenant, lines)
		}
		if l := s.balance(); l.Sent.Samples != 2 || l.Dropped[ReasonRelabel].Samples != 4 {
			t.Errorf("ledger is %+v, want 2 samples sent and 4 kept back", l)
		}
	}
}
