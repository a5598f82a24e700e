package remotewrite

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"sql2metrics/config"
)

func TestBitmap(t *testing.T) {
	for name, done := range map[string][]int{
		"none":          nil,
		"a prefix":      {0, 1, 2},
		"all":           {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
		"with holes":    {0, 2, 3, 11},
		"not the first": {1, 10},
	} {
		t.Run(name, func(t *testing.T) {
			want, got := make([]request, 12), make([]request, 12)
			for _, i := range done {
				want[i].done = true
			}
			var f inFlight
			f.mark(want)
			f.apply(got)
			if d := cmp.Diff(want, got, cmp.AllowUnexported(request{}, piece{}, span{}, outcome{})); d != "" {
				t.Errorf("requests (-want +got):\n%s", d)
			}
		})
	}
}

// TestStateFits fills a state with the largest there can be.
func TestStateFits(t *testing.T) {
	most := tally{math.MaxUint64, math.MaxUint64, math.MaxUint64}
	refused := savedOutcome{
		Sent: most, Unconfirmed: most,
		Dropped: map[Reason]tally{ReasonRejected: most, ReasonTooLarge: most, ReasonIsolationLimit: most, ReasonMaxBlock: most, ReasonUnsupported: most},
	}
	st := state{
		Version: stateVersion, Base: most, Sent: most, Unconfirmed: most, Doubtful: math.MaxUint64,
		Dropped: map[Reason]tally{},
		Learned: learned{URL: "0123456789abcdef", Protocol: config.ProtocolV2, Confirmed: true, At: math.MaxInt64, Limit: math.MaxInt},
		Window: &inFlight{
			End: math.MaxUint64, Shape: "0123456789abcdef", Counts: most, Blocked: math.MaxInt64, Done: math.MaxInt,
			cutting: cutting{Limit: math.MaxInt, TooOld: math.MaxInt64, Alone: slices.Repeat([]int32{maxWindow}, maxAlone)},
			Bits:    make([]byte, maxAhead/8), savedOutcome: refused,
			Divided: &divided{Request: math.MaxInt, Place: math.MaxInt, From: math.MaxInt64, savedOutcome: refused},
		},
	}
	// Room for reasons to come.
	for i := range 15 {
		st.Dropped[Reason(fmt.Sprintf("reason_of_some_length_%02d", i))] = most
	}
	b, err := st.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeState(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&st, back, cmp.AllowUnexported(inFlight{}, divided{})); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"version":1,"base":[1,2,3],"window":{"end":7,"done":-1,"bits":"/w=="}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decodeState(b)
		if err == nil && st.Window != nil {
			st.Window.apply(make([]request, 20))
		}
	})
}

func TestShape(t *testing.T) {
	base := func() (config.RemoteWrite, labels.Labels, config.Protocol) {
		e := endpoint(t, "http://localhost/write")
		e.WriteRelabel = []*relabel.Config{rule(t, relabel.Config{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("a")})}
		return e, labels.FromStrings("a", "b"), config.ProtocolV2
	}
	e, l, p := base()
	want := shape(e, l, p)
	if e, l, p = base(); shape(e, l, p) != want {
		t.Error("the same configuration has another shape")
	}
	e.URL = endpoint(t, "http://elsewhere/write").URL
	e.Queue.MaxShards++
	if shape(e, l, p) != want {
		t.Error("what does not form requests changes the shape")
	}
	for name, change := range map[string]func(){
		"protocol":       func() { p = config.ProtocolV1 },
		"external label": func() { l = labels.FromStrings("a", "c") },
		"request size":   func() { e.Queue.MaxSamplesPerSend++ },
		"regex":          func() { e.WriteRelabel[0].Regex = relabel.MustNewRegexp("b") },
		"another rule":   func() { e.WriteRelabel = append(e.WriteRelabel, e.WriteRelabel[0]) },
		"no rule":        func() { e.WriteRelabel = nil },
	} {
		e, l, p = base()
		change()
		if shape(e, l, p) == want {
			t.Errorf("%s: the shape is the same", name)
		}
	}
}
