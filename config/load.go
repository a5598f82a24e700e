package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Options is what the command line and tests decide beside the file.
type Options struct {
	// StoragePath replaces storage.path unless it is empty.
	StoragePath string
	// Getenv looks environment variables up; nil is [os.LookupEnv].
	Getenv func(name string) (value string, set bool)
}

// Load reads the configuration in the file path and the collector files it
// names. Any error is an [Errors] with everything that is wrong with them.
//
// Relative names of files start from the folder of the configuration,
// storage.path from the working directory: a configuration often lies in a
// folder that cannot be written. Load proves that files of passwords and
// certificates can be read and keeps their names only.
func Load(path string, o Options) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Errors{{File: path, Problem: "cannot be read: " + cause(err), Remedy: "check --config.file and who may read it"}}
	}
	return load(path, data, o)
}

// loader collects what is wrong while a configuration is read.
type loader struct {
	getenv func(string) (string, bool)
	errs   Errors
}

func (l *loader) report(e Error) { l.errs = append(l.errs, e) }

// document is the main file as it was read, with the collectors of all files.
type document struct {
	object
	config     Config
	global     object
	endpoints  []*endpoint
	sources    []*source
	patterns   []entry // collector_files
	collectors []*collector
	// partial says that a collector file could not be read, so that a name
	// nobody defines may well be in it.
	partial bool
}

var documentTable = table[document]{
	fields: map[string]func(node, *document){
		"global":          func(n node, d *document) { d.global = decode(n, globalTable, &d.config.Global) },
		"self":            func(n node, d *document) { decode(n, selfTable, &d.config.Self) },
		"storage":         func(n node, d *document) { decode(n, storageTable, &d.config.Storage) },
		"collector_files": func(n node, d *document) { d.patterns = n.texts() },
		"remote_write": func(n node, d *document) {
			for _, item := range n.list() {
				d.endpoints = append(d.endpoints, decodeEndpoint(item))
			}
		},
		"sources": func(n node, d *document) {
			for _, item := range n.list() {
				d.sources = append(d.sources, decodeSource(item))
			}
		},
		"collectors": func(n node, d *document) {
			for _, item := range n.list() {
				d.collectors = append(d.collectors, decodeCollector(item))
			}
		},
	},
	refused: map[string]refusal{
		"target":         {"belongs to sql_exporter", "describe the database under sources"},
		"jobs":           {"belongs to sql_exporter", "describe each database under sources"},
		"scrape_configs": {"means nothing here: the agent scrapes no targets", "describe databases under sources"},
		"limits":         notYet,
	},
}

// notYet refuses what is designed and not built.
var notYet = refusal{"is not supported by this version", "delete it"}

var globalTable = table[Global]{
	fields: map[string]func(node, *Global){
		"scrape_interval": func(n node, g *Global) { n.duration(&g.ScrapeInterval) },
		"scrape_timeout":  func(n node, g *Global) { n.duration(&g.ScrapeTimeout) },
		"external_labels": func(n node, g *Global) { n.externalLabels(&g.ExternalLabels) },
	},
	refused: map[string]refusal{
		"resend_interval":     notYet,
		"evaluation_interval": {"means nothing here: the agent evaluates no rules", "delete it"},
	},
}

var selfTable = table[Self]{
	fields: map[string]func(node, *Self){
		"enabled":  func(n node, s *Self) { n.bool(&s.Enabled) },
		"interval": func(n node, s *Self) { n.duration(&s.Interval) },
		"job":      func(n node, s *Self) { n.string(&s.Job) },
		"instance": func(n node, s *Self) { n.expand(&s.Instance) },
	},
}

var storageTable = table[Storage]{
	fields: map[string]func(node, *Storage){
		"path":           func(n node, s *Storage) { n.string(&s.Path) },
		"max_bytes":      func(n node, s *Storage) { n.bytes(&s.MaxBytes) },
		"fsync":          func(n node, s *Storage) { oneOf(n, &s.Fsync, FsyncInterval, FsyncAlways, FsyncNever) },
		"fsync_interval": func(n node, s *Storage) { n.duration(&s.FsyncInterval) },
	},
	refused: map[string]refusal{
		"max_age":  notYet,
		"min_free": notYet,
	},
}

// load is Load for a main file that has been read.
func load(path string, data []byte, o Options) (*Config, error) {
	l := &loader{getenv: o.Getenv}
	if l.getenv == nil {
		l.getenv = os.LookupEnv
	}
	f := &file{name: path, dir: filepath.Dir(path), load: l}
	root, ok := f.parse(data)
	if !ok {
		return nil, l.errs.sort()
	}
	d := &document{config: Default()}
	d.object = decode(root, documentTable, d)
	if o.StoragePath != "" {
		d.config.Storage.Path = o.StoragePath
	}
	d.readCollectorFiles()
	d.finish()
	if len(l.errs) > 0 {
		return nil, l.errs.sort()
	}
	return &d.config, nil
}

// finish fills in the defaults that depend on other fields, makes the checks
// that need more than one part of the configuration, and puts it together.
func (d *document) finish() {
	g := &d.config.Global
	if g.ScrapeTimeout > g.ScrapeInterval {
		if d.global.has("scrape_timeout") {
			d.global.at("scrape_timeout").fail(fmt.Sprintf("is longer than the scrape interval of %s", prometheusDuration(g.ScrapeInterval)),
				"make it at most as long as the interval")
		}
		g.ScrapeTimeout = g.ScrapeInterval
	}
	unique(d.endpoints, "an endpoint", func(e *endpoint) (string, node) { return e.Name, e.at("name") })
	unique(d.sources, "a source", func(s *source) (string, node) { return s.Name, s.at("name") })
	unique(d.collectors, "a collector", func(c *collector) (string, node) { return c.name, c.at("collector_name") })
	for _, c := range d.collectors {
		c.check(*g)
	}
	for _, s := range d.sources {
		s.finish(*g, d)
	}
	checkTypes(d.sources)
	for _, e := range d.endpoints {
		d.config.RemoteWrite = append(d.config.RemoteWrite, e.RemoteWrite)
	}
	for _, s := range d.sources {
		d.config.Sources = append(d.config.Sources, s.Source)
	}
}

// unique reports every item whose name an earlier one has.
func unique[T any](items []T, what string, name func(T) (string, node)) {
	first := map[string]node{}
	for _, item := range items {
		s, at := name(item)
		if s == "" {
			continue
		}
		if other, twice := first[s]; twice {
			at.fail(fmt.Sprintf("%s named %q is there already, on %s", what, s, other.place(at)), "give each a name of its own")
			continue
		}
		first[s] = at
	}
}

// readCollectorFiles reads the files that collector_files names, each once
// however many patterns match it.
func (d *document) readCollectorFiles() {
	seen := map[string]bool{}
	for _, p := range d.patterns {
		pattern := p.key
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(d.in.dir, pattern)
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			p.value.fail(fmt.Sprintf("%q is not a pattern of file names: a bracket is not closed", p.key), "close it, or escape it with a backslash")
			d.partial = true
			continue
		}
		if len(paths) == 0 {
			p.value.fail(fmt.Sprintf("no file matches %s", pattern), "check the name; it starts from the folder of this file")
			d.partial = true
		}
		for _, path := range paths {
			if !seen[path] {
				seen[path] = true
				d.readCollectorFile(path, p.value)
			}
		}
	}
}

// readCollectorFile reads one file, which the pattern at from names.
func (d *document) readCollectorFile(path string, from node) {
	data, err := readRegular(path)
	if err != nil {
		from.fail(fmt.Sprintf("%s cannot be read: %s", path, cause(err)), "check the name and who may read the file")
		d.partial = true
		return
	}
	f := &file{name: path, dir: filepath.Dir(path), load: d.in.load}
	root, ok := f.parse(data)
	if !ok {
		d.partial = true
		return
	}
	d.collectors = append(d.collectors, decodeCollector(root))
}

// fileName sets *into to the name of a file that somebody reads later, and
// reports one that cannot be read.
func (n node) fileName(into *string) {
	var s string
	if n.expand(&s); s == "" {
		return
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(n.in.dir, s)
	}
	data, err := readRegular(s)
	switch {
	case err != nil:
		n.fail(fmt.Sprintf("%s cannot be read: %s", s, cause(err)), "check the name, which starts from the folder of this file, and who may read it")
	case strings.TrimSpace(string(data)) == "":
		n.fail(s+" is empty", "write into it what it is to hold")
	}
	*into = s
}

var errNotRegular = errors.New("it is not a regular file")

// readRegular reads a file and refuses what might never end or never begin.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	return os.ReadFile(path)
}

// cause returns an error of the file system without the path, which the
// message around it has.
func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
