package wal

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestState keeps states over restarts and segments, replaces and removes them.
func TestState(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 2000})
	up := l.Series(testLabels(1), Metadata{})
	now := testStart
	round := func(changes ...State) *Round {
		now = now.Add(time.Second)
		return &Round{Samples: []Sample{{Series: up, T: now.UnixMilli(), V: 1}}, State: changes}
	}
	mustAppend(t, l, round(State{"a", []byte("1")}, State{"b", []byte("1")}, State{"gone", []byte("1")}), now)
	value := []byte("2")
	mustAppend(t, l, round(State{"b", value}, State{"gone", nil}, State{"empty", []byte{}}), now)
	value[0] = '3' // the caller's again
	for range 200 {
		mustAppend(t, l, round(), now)
	}
	want := map[string][]byte{"a": []byte("1"), "b": []byte("2"), "gone": nil, "empty": {}}
	check := func(when string) {
		t.Helper()
		got := map[string][]byte{}
		for key := range want {
			got[key] = l.State(key)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("states %s (-want +got):\n%s", when, d)
		}
	}
	check("before a restart")
	if n := l.Stats().Segments; n < 2 {
		t.Fatalf("%d segments", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir, SegmentBytes: 2000})
	check("after it")
}

// TestStateOfARefusedRound is not kept.
func TestStateOfARefusedRound(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	up := l.Series(testLabels(1), Metadata{})
	at := testStart.UnixMilli()
	mustAppend(t, l, &Round{Samples: []Sample{{Series: up, T: at, V: 1}}, State: []State{{"a", []byte("1")}}}, testStart)
	late := &Round{Samples: []Sample{{Series: up, T: at, V: 2}}, State: []State{{"a", []byte("2")}}}
	if out, err := l.Append(late, testStart); err != nil || out.Refused.Samples != 1 {
		t.Fatalf("append: %+v, %v", out, err)
	}
	if got := string(l.State("a")); got != "1" {
		t.Errorf("state is %q, want that of the round in the log", got)
	}
}

// TestStateRoom has one state, and all together, grow beyond their room: the
// others of the round are kept, and so is what the log had.
func TestStateRoom(t *testing.T) {
	l := openTest(t, Options{Path: t.TempDir()})
	up := l.Series(testLabels(1), Metadata{})
	now := testStart
	give := func(without []string, changes ...State) {
		t.Helper()
		now = now.Add(time.Second)
		out, err := l.Append(&Round{Samples: []Sample{{Series: up, T: now.UnixMilli(), V: 1}}, State: changes}, now)
		var full *StateError
		if errors.As(err, &full) != (without != nil) || out.Appended.Samples != 1 {
			t.Fatalf("append: %+v, %v", out, err)
		}
		if full != nil {
			if d := cmp.Diff(without, full.Keys); d != "" || full.Err != nil {
				t.Fatalf("without %v, %v", full.Keys, full.Err)
			}
		}
	}
	room := func(key string, want int) {
		t.Helper()
		if got := l.StateRoom(key); got != want {
			t.Fatalf("room for %s is %d, want %d", key, got, want)
		}
	}
	const most = maxState - 2*5 - 1 // of a key with one letter
	room("a", most)
	give([]string{"a"}, State{"a", make([]byte, most+1)}, State{"b", []byte("1")})
	if l.State("a") != nil || string(l.State("b")) != "1" {
		t.Errorf("states of %d and %d bytes", len(l.State("a")), len(l.State("b")))
	}
	give(nil, State{"a", make([]byte, most)}, State{"c", make([]byte, most)}, State{"d", make([]byte, most)})
	left := most - (2*5 + 1 + 1) // b is there
	room("e", left)
	room("b", most)
	room("a", most)
	give([]string{"f"}, State{"e", make([]byte, left)}, State{"f", []byte{}}, State{"e", make([]byte, left)})
	give([]string{"e"}, State{"e", make([]byte, most)}, State{"a", make([]byte, 1)}, State{"d", make([]byte, most)})
	give(nil, State{"e", make([]byte, left)}, State{"d", nil})
	if d := cmp.Diff([]string{"a", "b", "c", "e"}, l.StateKeys()); d != "" {
		t.Error(d)
	}
}

// TestKeepStates makes room, and the next segment is without what is removed.
func TestKeepStates(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 2000})
	up := l.Series(testLabels(1), Metadata{})
	now := testStart
	for i := range 200 {
		now = now.Add(time.Second)
		r := &Round{Samples: []Sample{{Series: up, T: now.UnixMilli(), V: 1}}}
		switch i {
		case 0:
			r.State = []State{{"a", []byte("1")}, {"b", make([]byte, maxState/2)}}
		case 1:
			l.KeepStates(func(key string) bool { return key == "a" })
		case 2:
			r.State = []State{{"c", make([]byte, maxState/2)}}
		}
		mustAppend(t, l, r, now)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, Options{Path: dir, SegmentBytes: 2000})
	if string(l.State("a")) != "1" || l.State("b") != nil || len(l.State("c")) != maxState/2 {
		t.Errorf("states of %d, %d and %d bytes", len(l.State("a")), len(l.State("b")), len(l.State("c")))
	}
}

// TestStateOfARoundThatWaits comes with its samples, when the disk has room.
func TestStateOfARoundThatWaits(t *testing.T) {
	fs := &spyFS{calls: map[string]int{}}
	l := openTest(t, Options{Path: t.TempDir(), FS: fs})
	up := l.Series(testLabels(1), Metadata{})
	fs.fail(map[string]error{opAppend: fault{}, opCreate: fault{}})
	value := []byte("1")
	r := &Round{Samples: []Sample{{Series: up, T: testStart.UnixMilli(), V: 1}}, State: []State{{"a", value}}}
	if out, err := l.Append(r, testStart); err != nil || out.Kept.Samples != 1 {
		t.Fatalf("append: %+v, %v", out, err)
	}
	value[0] = '2'
	if l.State("a") != nil {
		t.Error("the state is there before its samples")
	}
	fs.fail(nil)
	mustSync(t, l, testStart)
	if got := string(l.State("a")); got != "1" {
		t.Errorf("state is %q, want that of the round", got)
	}
}

func FuzzDecodeStates(f *testing.F) {
	f.Add(appendStates(nil, []State{{"a", []byte("1")}, {"", nil}, {"c", []byte{}}}))
	f.Add([]byte{15, 1, 'a'})
	f.Add([]byte{15, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, rec []byte) {
		if len(rec) == 0 {
			return
		}
		all, err := decodeStates(rec, nil)
		if err != nil {
			return
		}
		again, err := decodeStates(appendStates(nil, all), nil)
		if d := cmp.Diff(all, again); err != nil || d != "" {
			t.Fatalf("states %v come back as %v, %v", all, again, err)
		}
	})
}

// TestStateFromTheSegmentBefore has the newest segment lose the states it
// begins with.
func TestStateFromTheSegmentBefore(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, Options{Path: dir, SegmentBytes: 2000})
	up := l.Series(testLabels(1), Metadata{})
	now := testStart
	for i := range 100 {
		now = now.Add(time.Second)
		r := &Round{Samples: []Sample{{Series: up, T: now.UnixMilli(), V: 1}}}
		if i == 0 {
			r.State = []State{{"a", []byte("here I am")}}
		}
		mustAppend(t, l, r, now)
	}
	newest := l.segments[len(l.segments)-1].first
	if err := l.Close(); err != nil || newest == 1 {
		t.Fatal(newest, err)
	}
	c := damageCase{t, dir}
	c.edit(c.segment(newest), func(b []byte) []byte {
		b[bytes.Index(b, []byte("here I am"))] ^= 1
		return b
	})
	l = openTest(t, Options{Path: dir, SegmentBytes: 2000})
	if got := string(l.State("a")); got != "here I am" {
		t.Errorf("state is %q", got)
	}
}
