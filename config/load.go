package config

import (
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

// globQuote has a file's name match nothing but itself.
var globQuote = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// loader collects what is wrong while a configuration is read.
type loader struct {
	getenv   func(string) (string, bool)
	read     map[string][]byte // hashes of files by their clean names
	errs     Errors
	warnings Errors
}

func (l *loader) report(e Error) { l.errs = append(l.errs, e) }

// load is Load for a main file that has been read.
func load(path string, data []byte, o Options) (*Config, error) {
	l := &loader{getenv: o.Getenv, read: map[string][]byte{filepath.Clean(path): contentHash(data)}}
	if l.getenv == nil {
		l.getenv = os.LookupEnv
	}
	f := &file{name: path, dir: filepath.Dir(path), load: l}
	root, ok := f.parse(data)
	if !ok {
		return nil, l.errs.sort()
	}
	d := &document{config: Default()}
	d.global.Global = d.config.Global
	d.config.Files.Patterns = []string{globQuote.Replace(path)}
	d.object = decode(root, documentTable, d)
	if o.StoragePath != "" {
		d.config.Storage.Path = o.StoragePath
	}
	d.readCollectorFiles()
	d.finish()
	if len(l.errs) > 0 {
		return nil, l.errs.sort()
	}
	d.config.Warnings = l.warnings.sort()
	d.config.Files.Loaded = d.config.Files.content(func(name string) []byte { return l.read[filepath.Clean(name)] })
	return &d.config, nil
}
