package collect

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"

	"sql2metrics/config"
	"sql2metrics/e2e/receiver"
	"sql2metrics/wal"
)

// A query that runs each hour is in Prometheus at every minute of the day:
// through slow runs, whose fresh values a receiver without an out-of-order
// window takes, and through failures, until it ends as configured.
func TestHourlyQueryInPrometheus(t *testing.T) {
	const day = 24 * time.Hour
	prometheus := receiver.Start(t, receiver.Options{})
	errBusy := errors.New("canceling statement due to conflict with recovery")
	// The state of the database in each hour of the day; all answers are of the
	// minute they come at.
	hours := map[int]func(minute int) reply{
		3:  func(int) reply { return reply{statuses: "a", takes: 20 * time.Minute} },
		5:  func(int) reply { return reply{statuses: "a", takes: 59*time.Minute + 30*time.Second} },
		8:  func(minute int) reply { return failing(minute < 10, errBusy) }, // for ten minutes
		12: func(int) reply { return reply{err: errBusy} },                  // for four hours
		13: func(int) reply { return reply{err: errDown} },
		14: func(int) reply { return reply{err: errBusy, takes: time.Minute} },
		15: func(int) reply { return reply{err: errDown} },
	}
	clock := config.Clock{
		Interval: time.Hour, Align: true, RunOnStart: true, ResendInterval: time.Minute,
		StaleAfter: 3 * time.Hour, OnError: config.OnErrorKeep,
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(t0))
		log := openLog(t)
		live(t, log, clock, time.Hour, day, func(at time.Duration) reply {
			if hour := hours[int(at/time.Hour)]; hour != nil {
				return hour(int(at % time.Hour / time.Minute))
			}
			return reply{statuses: "a"}
		})
		shipAll(t, log, prometheus)
	})

	// What a query of PromQL sees at each minute is the minute its value was
	// read at, or nothing.
	seen := func(minute int) float64 {
		for _, v := range prometheus.Query(t, "orders", t0.Add(time.Duration(minute)*time.Minute)) {
			return v
		}
		return math.NaN()
	}
	want := func(minute int) float64 {
		switch hour := minute / 60; {
		case hour == 3 && minute < 3*60+20:
			return 2 * 60
		case hour == 3:
			return 3*60 + 20
		case hour == 5:
			return 4 * 60
		case hour == 6:
			return 6*60 + 0 // the tick of that hour, which the slow run did not reach
		default:
			return float64(hour * 60)
		}
	}
	for minute := range 24 * 60 {
		if minute/60 == 8 || minute/60 >= 12 && minute/60 <= 16 {
			continue // below
		}
		if got := seen(minute); got != want(minute) {
			t.Errorf("minute %d of hour %d shows the value of minute %v, want %v", minute%60, minute/60, got, want(minute))
		}
	}
	for minute, want := range map[int]float64{
		8 * 60: 7 * 60, 8*60 + 9: 7 * 60, // kept
		12 * 60: 11 * 60, 13*60 + 59: 11 * 60, // kept
		14*60 + 1: math.NaN(), 15*60 + 59: math.NaN(), // three hours are over
		16 * 60: 16 * 60, 16*60 + 59: 16 * 60, // back
	} {
		if got := seen(minute); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("minute %d of hour %d shows the value of minute %v, want %v", minute%60, minute/60, got, want)
		}
	}
	if got := seen(8*60 + 20); got < 8*60+10 {
		t.Errorf("ten minutes after a failure that passed, the value is that of minute %v", got)
	}
}

func failing(now bool, err error) reply {
	if now {
		return reply{err: err}
	}
	return reply{statuses: "a"}
}

// shipAll sends a log to a receiver, a frame each, and has none refused.
func shipAll(t *testing.T, log *wal.Log, to *receiver.Receiver) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reader := log.Reader(wal.Position{})
	defer reader.Close()
	var f wal.Frame
	for {
		err := reader.Next(&f)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var r prompb.WriteRequest
		for _, s := range f.Samples {
			r.Timeseries = append(r.Timeseries, prompb.TimeSeries{
				Labels:  prompb.FromLabels(f.Series[s.Ref].Labels, nil),
				Samples: []prompb.Sample{{Timestamp: s.T, Value: s.V}},
			})
		}
		raw, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Post(to.URL(), "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
			t.Errorf("the receiver refused %s: %s %s", r.String(), res.Status, body)
		}
		_ = res.Body.Close()
	}
}
