package remotewrite

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"sql2metrics/config"
	"sql2metrics/wal"
)

// TestLosingReplica has two agents ship the same series to a receiver that
// keeps those of one replica, as Mimir's tracker does: the other's requests are
// answered 202, and nothing of them is stored. The answer is the receiver's
// word: what it accepts is sent, on both.
func TestLosingReplica(t *testing.T) {
	received := func(w http.ResponseWriter, n int) {
		w.Header().Set(headerSamplesWritten, strconv.Itoa(n))
		w.WriteHeader(http.StatusAccepted)
	}
	for name, c := range map[string]struct {
		configured config.Protocol
		dropped    func(w http.ResponseWriter, p post, n int)
		want       Ledger // of the loser
		spoken     string
	}{
		"1.0": {
			configured: config.ProtocolV1,
			dropped:    func(w http.ResponseWriter, _ post, _ int) { w.WriteHeader(http.StatusAccepted) },
			want:       Ledger{Sent: wal.Totals{Samples: 30}}, spoken: "1.0",
		},
		"2.0, counts of what it received": { // Mimir
			dropped: func(w http.ResponseWriter, _ post, n int) { received(w, n) },
			want:    Ledger{Sent: wal.Totals{Samples: 30}}, spoken: "2.0",
		},
		"2.0, no counts": { // so that nobody can tell it from 1.0
			dropped: func(w http.ResponseWriter, _ post, _ int) { w.WriteHeader(http.StatusAccepted) },
			want:    Ledger{Sent: wal.Totals{Samples: 30}}, spoken: "1.0",
		},
		"2.0, counts of nothing": { // Cortex before it was mended
			dropped: func(w http.ResponseWriter, _ post, _ int) { received(w, 0) },
			want:    Ledger{Dropped: map[Reason]wal.Totals{ReasonRejected: {Samples: 30}}}, spoken: "2.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, st := newFake(t), newStore(harmless)
			f.answers(func(w http.ResponseWriter, p post) {
				f.mu.Lock()
				defer f.mu.Unlock()
				lines := p.lines(t)
				if strings.Contains(lines[0], `__replica__="b"`) {
					c.dropped(w, p, len(lines))
					return
				}
				st.take(lines)
				received(w, len(lines))
			})
			replica := func(name string) (journal, ship) {
				j := openJournal(t, t.TempDir(), wal.Options{})
				e := endpoint(t, f.URL)
				e.Protocol = c.configured
				return j, newShip(t, Options{Endpoint: e, Log: j.Log, ExternalLabels: labels.FromStrings("cluster", "orders", "__replica__", name)})
			}
			logs, ships := [2]journal{}, [2]ship{}
			for i, name := range []string{"a", "b"} {
				logs[i], ships[i] = replica(name)
			}
			for minute := range 3 {
				now := epoch.Add(time.Duration(minute) * time.Minute)
				for i, j := range logs {
					j.append(now, round(j.family("due", 10), now, 1)...)
					ships[i].drain(now.Add(10 * time.Second))
				}
			}
			if l := ships[0].balance(); l.Sent.Samples != 30 || len(st.stored) != 30 {
				t.Errorf("the winner's ledger is %+v, and %d samples are stored, want 30", l, len(st.stored))
			}
			l := ships[1].balance()
			if l.Sent != c.want.Sent || l.Dropped[ReasonRejected] != c.want.Dropped[ReasonRejected] || !l.Unconfirmed.IsZero() || !l.Pending.IsZero() || l.Protocol != c.spoken {
				t.Errorf("the loser's ledger is %+v, want %+v by %s", l, c.want, c.spoken)
			}
		})
	}
}
