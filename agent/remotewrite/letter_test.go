package remotewrite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sql2metrics/config"
)

func testLetter(endpoint string) *Letter {
	return &Letter{
		Endpoint: endpoint, Time: epoch, Reason: ReasonRejected, Status: 400, Words: "no \"thanks\"\n", Protocol: config.ProtocolV1,
		Appended: epoch, Window: 7, Series: []string{`{__name__="a"}`}, Samples: 3, Histograms: 2, Exemplars: 1, Written: &Written{Samples: 2},
	}
}

// testSegment is a segment with letters of these bodies.
func testSegment(tb testing.TB, bodies ...string) []byte {
	tb.Helper()
	b := []byte(letterMagic)
	for _, body := range bodies {
		frame, _, err := encodeLetter(testLetter("a"), []byte(body))
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, frame...)
	}
	return b
}

func bodiesOf(frames []letterFrame) (all []string) {
	for _, f := range frames {
		all = append(all, string(f.body))
	}
	return all
}

func TestLetterRoundTrip(t *testing.T) {
	b := testSegment(t, "body", "")
	frames, end, damage, err := scanLetters(b)
	if err != nil || damage || end != int64(len(b)) || !slices.Equal(bodiesOf(frames), []string{"body", ""}) {
		t.Fatalf("bodies %q, end %d of %d, damage %t, %v", bodiesOf(frames), end, len(b), damage, err)
	}
	l, err := frames[0].letter()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*testLetter("a"), l, cmpopts.IgnoreUnexported(Letter{}), cmpopts.IgnoreFields(Letter{}, "ID", "Bytes")); d != "" {
		t.Errorf("letter (-want +got):\n%s", d)
	}
	other, err := frames[1].letter()
	if err != nil || other.ID == l.ID || !strings.HasPrefix(l.ID, "20260301T120000-7-") {
		t.Errorf("IDs are %s and %s, %v", l.ID, other.ID, err)
	}
}

// TestSegmentDamage has every byte of a segment torn off and flipped: a letter
// that is not whole costs itself alone.
func TestSegmentDamage(t *testing.T) {
	b := testSegment(t, "first", "second", "third")
	frames, _, _, err := scanLetters(b)
	if err != nil {
		t.Fatal(err)
	}
	for at := range b {
		whole := 0
		for _, f := range frames {
			if f.offset+f.size <= int64(at) {
				whole++
			}
		}
		got, end, damage, err := scanLetters(b[:at])
		if err != nil || damage || len(got) != whole || end > int64(at) {
			t.Fatalf("torn at %d: %d letters, want %d; end %d, damage %t, %v", at, len(got), whole, end, damage, err)
		}
		zeroed := append(bytes.Clone(b[:at]), make([]byte, len(b)-at)...)
		if got, _, damage, _ := scanLetters(zeroed); damage || len(got) < whole || len(got) > whole+1 {
			t.Fatalf("zeros from %d on: %d letters, want %d; damage %t", at, len(got), whole, damage)
		}
		flipped := bytes.Clone(b)
		flipped[at] ^= 1
		got, _, damage, err = scanLetters(flipped)
		if at < len(letterMagic) {
			if err == nil {
				t.Fatalf("byte %d is damaged, and it is still a segment", at)
			}
			continue
		}
		hit, mark := 0, false
		for i, f := range frames {
			if in := int64(at) - f.offset; in >= 0 && in < f.size {
				hit, mark = i, in >= letterMarkOffset && in < letterMarkOffset+4
			}
		}
		if want := len(frames) - 1; !mark && (len(got) != want || damage != (hit < want) || err != nil) {
			t.Fatalf("byte %d is damaged: %q, damage %t, %v", at, bodiesOf(got), damage, err)
		}
		if mark && (len(got) != len(frames) || slices.ContainsFunc(got, func(f letterFrame) bool { return f.removed })) {
			t.Fatalf("byte %d of a mark is damaged: %q", at, bodiesOf(got))
		}
	}
}

func FuzzScanLetters(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(testSegment(f))
	f.Add(testSegment(f, "first", "second"))
	f.Add(append(testSegment(f, "first"), letterFrameMagic...))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, end, _, err := scanLetters(b)
		if err != nil {
			return
		}
		at := int64(0)
		for _, l := range frames {
			if l.offset < at || int64(len(l.head)+len(l.body))+letterFrameHeader != l.size {
				t.Fatalf("letter at %d of %d bytes, behind %d", l.offset, l.size, at)
			}
			at = l.offset + l.size
			l.letter()
		}
		if len(frames) > 0 && end != at || end > int64(len(b)) {
			t.Fatalf("the segment ends at %d, and the last letter at %d", end, at)
		}
		again, end2, damage, err := scanLetters(b[:end])
		if err != nil || len(again) != len(frames) || end > 0 && end2 != end {
			t.Fatalf("cut at its end: %d letters of %d, end %d of %d, damage %t, %v", len(again), len(frames), end2, end, damage, err)
		}
	})
}

// TestLettersNameDamage lists what is around it.
func TestLettersNameDamage(t *testing.T) {
	path := t.TempDir()
	d := openDead(t, DeadLetterOptions{Path: path})
	for i := range 3 {
		d.keep(testLetter("a"), []byte{byte(i)})
	}
	file := letterFile{folder: "a", number: 1}.path(path)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	letters, err := Letters(path, "")
	if len(letters) != 2 || err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%d letters, %v, want 2 and the damage", len(letters), err)
	}
}

func TestEndpointFolder(t *testing.T) {
	long := strings.Repeat("long/", 60)
	folders := map[string]string{}
	for _, name := range []string{"mimir", "../b/:", ".", "..", "%.", "a b", "ä", long + "1", long + "2", strings.Repeat("ä", 90), strings.Repeat("ä", 90) + "ü"} {
		folder := endpointFolder(name)
		if other, taken := folders[folder]; taken {
			t.Errorf("%q and %q have the folder %q", name, other, folder)
		}
		folders[folder] = name
		if len(folder) > 200 || filepath.Base(folder) != folder || folder == "." || folder == ".." {
			t.Errorf("the folder of %q is %q", name, folder)
		}
		if len(name) < 100 && endpointOf(folder) != name {
			t.Errorf("the folder of %q is of %q", name, endpointOf(folder))
		}
	}
}

// TestRemoveLetters removes beside an agent that goes on.
func TestRemoveLetters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deadletter")
	d := openDead(t, DeadLetterOptions{Path: path})
	const each = 30
	for i := range 2 * each {
		d.keep(testLetter([]string{"a", "b"}[i%2]), fmt.Appendf(nil, "%8000d", i))
	}
	now := epoch
	look := func() (letters, bytes int64) {
		now = now.Add(lookEvery)
		d.look(now)
		return gaugeOf(t, d.letters), gaugeOf(t, d.bytes)
	}
	if n, _ := look(); n != 2*each {
		t.Fatalf("%d letters", n)
	}
	listed := lettersOf(t, path)
	two := []Letter{listed[3], listed[len(listed)-4]} // of a, and of b
	other := listed[3]                                // what was in its place when it was listed
	other.sum++
	if n, err := RemoveLetters(path, []Letter{other}); n != 0 || err != nil {
		t.Errorf("removed %d in the place of another, %v", n, err)
	}
	for again, want := range []int{2, 0} {
		if n, err := RemoveLetters(path, two); n != want || err != nil {
			t.Errorf("removed %d the %d. time, %v, want %d", n, again+1, err, want)
		}
	}
	left := lettersOf(t, path)
	if want := slices.Concat(listed[:3], listed[4:len(listed)-4], listed[len(listed)-3:]); !slices.EqualFunc(left, want, func(a, b Letter) bool { return a.ID == b.ID }) {
		t.Errorf("%d letters are left, want all but the two", len(left))
	}
	if n, _ := look(); n != 2*each-2 {
		t.Errorf("the agent counts %d, want %d", n, 2*each-2)
	}

	of, err := Letters(path, "a")
	if err != nil {
		t.Fatal(err)
	}
	_, before := look()
	if n, err := RemoveLetters(path, of); n != each-1 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
	d.keep(testLetter("a"), []byte("the agent goes on"))
	n, after := look()
	if n != each || after >= before {
		t.Errorf("the agent counts %d letters of %d bytes after %d, want %d and the space back", n, after, before, each)
	}
	if of, err := Letters(path, "a"); len(of) != 1 || err != nil {
		t.Errorf("%d letters, %v, want the new one", len(of), err)
	}

	if _, err := RemoveLetters(path, lettersOf(t, path)); err != nil {
		t.Error(err)
	}
	if n, bytes := look(); n != 0 || bytes != 0 || len(segmentsIn(t, path)) != 0 {
		t.Errorf("%d letters, %d bytes, segments %q are left, want none", n, bytes, segmentsIn(t, path))
	}
	d.keep(testLetter("a"), []byte("and on"))
	if n := len(lettersOf(t, path)); n != 1 {
		t.Errorf("%d letters, want one", n)
	}
	if n, err := RemoveLetters(path, listed); n != 0 || err != nil {
		t.Errorf("removed %d of what was gone, %v", n, err)
	}
}

// TestLettersAreInOrderOfTime has two endpoints refused in turn.
func TestLettersAreInOrderOfTime(t *testing.T) {
	path := t.TempDir()
	d := openDead(t, DeadLetterOptions{Path: path})
	for i := range 6 {
		l := testLetter([]string{"a", "b"}[i%2])
		l.Time = epoch.Add(time.Duration(i) * time.Second)
		d.keep(l, []byte{byte(i)})
	}
	for i, l := range lettersOf(t, path) {
		if !l.Time.Equal(epoch.Add(time.Duration(i) * time.Second)) {
			t.Errorf("letter %d is of %s", i, l.Time)
		}
	}
}
