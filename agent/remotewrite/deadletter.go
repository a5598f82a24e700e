package remotewrite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const letterSuffix = ".letter"

// DeadLetterOptions shape a [DeadLetter].
type DeadLetterOptions struct {
	Path       string // the folder; made with the first letter
	MaxBytes   int64  // of the letters of all endpoints
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// DeadLetter keeps the requests that receivers refuse: one file per request,
// in a folder per endpoint. Over its bound the oldest go. All endpoints share
// one, and the command line lists and removes files beside it; the folder is
// the only truth.
type DeadLetter struct {
	path     string
	maxBytes int64
	logger   *slog.Logger

	written, evicted, failed prometheus.Counter

	mu      sync.Mutex
	failing bool // the last letter could not be written
}

// OpenDeadLetter prepares to keep letters. It touches no file.
func OpenDeadLetter(o DeadLetterOptions) (*DeadLetter, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "sql2metrics_dead_letter_" + name, Help: help})
	}
	d := &DeadLetter{
		path: o.Path, maxBytes: o.MaxBytes, logger: o.Logger,
		written: counter("requests_written_total", "Refused requests that were written to the dead letter."),
		evicted: counter("requests_evicted_total", "Requests removed from the dead letter to keep storage.dead_letter_max_bytes."),
		failed:  counter("write_failures_total", "Refused requests that could not be written to the dead letter. Their samples are counted as any other."),
	}
	if o.Registerer == nil {
		return d, nil
	}
	for _, c := range []prometheus.Collector{d.written, d.evicted, d.failed, newLetterCollector(d)} {
		if err := o.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the dead letter: %w", err)
		}
	}
	return d, nil
}

// letterFile is a letter on disk.
type letterFile struct {
	path  string
	bytes int64 // on disk
}

func (f letterFile) id() string { return strings.TrimSuffix(filepath.Base(f.path), letterSuffix) }

// list returns the letters of all endpoints, the oldest first: an ID begins
// with a time.
func (d *DeadLetter) list() ([]letterFile, error) { return listLetters(d.path) }

func listLetters(path string) ([]letterFile, error) {
	var all []letterFile
	err := filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, letterSuffix) {
			return ignoreMissing(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		all = append(all, letterFile{path, onDisk(info.Size())})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	slices.SortStableFunc(all, func(a, b letterFile) int { return strings.Compare(a.id(), b.id()) })
	return all, nil
}

// onDisk is what a file of so many bytes takes of most disks. Counted so,
// small letters cannot take many times the bound.
func onDisk(bytes int64) int64 {
	const block = 4096
	return (bytes + block - 1) / block * block
}

// ignoreMissing forgives that a file is gone: others may remove letters.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keep writes a letter. It survives the process when keep returns. That it
// cannot be written is logged when it begins, and nobody's error: its samples
// are counted all the same.
func (d *DeadLetter) keep(l *Letter, id string, body []byte) {
	if d == nil {
		return
	}
	err := d.write(l, id, body)
	d.mu.Lock()
	changed := d.failing != (err != nil)
	d.failing = err != nil
	d.mu.Unlock()
	if err == nil {
		d.written.Inc()
		return
	}
	d.failed.Inc()
	if changed {
		d.logger.Error("refused requests cannot be written to the dead letter; their samples are counted, and gone", "path", d.path, "err", err)
	}
}

func (d *DeadLetter) write(l *Letter, id string, body []byte) error {
	b, err := l.encode(body)
	if err != nil {
		return err
	}
	if err := d.makeRoom(onDisk(int64(len(b)))); err != nil {
		return err
	}
	folder := filepath.Join(d.path, endpointFolder(l.Endpoint))
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("make folder of the dead letter: %w", err)
	}
	path := filepath.Join(folder, id+letterSuffix)
	if err := os.WriteFile(path+".tmp", b, 0o640); err != nil {
		return errors.Join(fmt.Errorf("write dead letter: %w", err), ignoreMissing(os.Remove(path+".tmp")))
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write dead letter: %w", err)
	}
	return nil
}

// makeRoom removes the oldest letters until so many bytes fit below the bound.
func (d *DeadLetter) makeRoom(bytes int64) error {
	if bytes > d.maxBytes {
		return fmt.Errorf("a letter of %d bytes is over storage.dead_letter_max_bytes, %d", bytes, d.maxBytes)
	}
	letters, err := d.list()
	if err != nil {
		return err
	}
	for _, f := range letters {
		bytes += f.bytes
	}
	for _, f := range letters {
		if bytes <= d.maxBytes {
			return nil
		}
		bytes -= f.bytes
		switch err := os.Remove(f.path); {
		case err == nil:
			d.evicted.Inc()
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("remove oldest dead letter: %w", err)
		}
	}
	return nil
}

// moveLetters gives the letters of an endpoint to another one, beside those it
// has. What is left after an error can be moved by the next call.
func (d *DeadLetter) moveLetters(from, to string) error {
	if d == nil {
		return nil
	}
	before, after := filepath.Join(d.path, endpointFolder(from)), filepath.Join(d.path, endpointFolder(to))
	entries, err := os.ReadDir(before)
	if errors.Is(err, fs.ErrNotExist) || before == after {
		return nil
	}
	if err != nil {
		return fmt.Errorf("move dead letters: %w", err)
	}
	if err := os.MkdirAll(after, 0o750); err != nil {
		return fmt.Errorf("make folder of the dead letter: %w", err)
	}
	for _, e := range entries {
		err := os.Rename(filepath.Join(before, e.Name()), filepath.Join(after, e.Name()))
		if ignoreMissing(err) != nil {
			return fmt.Errorf("move dead letter: %w", err)
		}
	}
	if err := ignoreMissing(os.Remove(before)); err != nil {
		return fmt.Errorf("remove empty folder of the dead letter: %w", err)
	}
	return nil
}

// endpointFolder is the name of an endpoint's folder, whose letters are its own.
func endpointFolder(endpoint string) string {
	name := url.PathEscape(endpoint)
	if name == "." || name == ".." {
		return "%" + name
	}
	return name[:min(len(name), 200)]
}

// endpointOf is whose a letter is: by its folder, where another endpoint has
// taken over the letters of the one that wrote it.
func endpointOf(path, writer string) string {
	folder := filepath.Base(filepath.Dir(path))
	if folder == endpointFolder(writer) {
		return writer
	}
	if name, err := url.PathUnescape(folder); err == nil && endpointFolder(name) == folder {
		return name
	}
	return writer // the folder's name was cut
}

// letterCollector shows what is in the folder at each scrape.
type letterCollector struct {
	deadLetter *DeadLetter
	requests   *prometheus.Desc
	bytes      *prometheus.Desc
}

func newLetterCollector(d *DeadLetter) *letterCollector {
	return &letterCollector{
		deadLetter: d,
		requests:   prometheus.NewDesc("sql2metrics_dead_letter_requests", "Refused requests in the dead letter.", nil, nil),
		bytes:      prometheus.NewDesc("sql2metrics_dead_letter_bytes", "Bytes of the dead letter on disk.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *letterCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.requests; ch <- c.bytes }

// Collect implements [prometheus.Collector].
func (c *letterCollector) Collect(ch chan<- prometheus.Metric) {
	letters, err := c.deadLetter.list()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.requests, err)
		return
	}
	bytes := int64(0)
	for _, f := range letters {
		bytes += f.bytes
	}
	ch <- prometheus.MustNewConstMetric(c.requests, prometheus.GaugeValue, float64(len(letters)))
	ch <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(bytes))
}
