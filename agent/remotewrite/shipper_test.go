package remotewrite

import (
	"testing"
	"time"

	"sql2metrics/wal"
)

func TestWindowWaitsForTheDeadline(t *testing.T) {
	f := newFake(t)
	j := openJournal(t, t.TempDir(), wal.Options{})
	s := newShip(t, Options{Endpoint: endpoint(t, f.URL), Log: j.Log})

	if rest := s.step(epoch); rest != idle {
		t.Errorf("with nothing to send, rest is %v, want %v", rest, idle)
	}
	up := j.family("up", 3)
	j.append(epoch, round(up, epoch, 1)...)
	if rest := s.step(epoch.Add(2 * time.Second)); rest != 3*time.Second {
		t.Errorf("2 s after the append, rest is %v, want 3s", rest)
	}
	j.append(epoch.Add(4*time.Second), round(up, epoch.Add(4*time.Second), 2)...)
	if n := len(f.received()); n != 0 {
		t.Fatalf("%d requests before the deadline", n)
	}
	s.drain(epoch.Add(5 * time.Second))
	if got := len(f.received()); got != 1 {
		t.Errorf("%d requests after the deadline, want both rounds in one", got)
	}
	l := s.balance()
	if l.Sent.Samples != 6 || !l.Pending.IsZero() {
		t.Errorf("ledger is %+v, want 6 samples sent and none pending", l)
	}
}
