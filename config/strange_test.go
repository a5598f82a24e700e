package config

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Keys and values that are left behind by an edit, or that no field expects.
var (
	strangeKeys   = []string{`""`, `<<`}
	strangeValues = []string{`""`, `null`, `-1`, `200y`, `[null, "", {}]`, `{"": x}`}
)

// TestStrange puts something strange in the place of each key and each value of
// the good files: the answer is a configuration or errors, whatever stands where.
func TestStrange(t *testing.T) {
	type good struct {
		name string
		data []byte
	}
	var files []good
	names, err := filepath.Glob("testdata/good/*.yml")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d good files: %v", len(names), err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, good{name, data})
	}
	// The smallest file that has a field stands for the others.
	slices.SortFunc(files, func(a, b good) int { return cmp.Compare(len(a.data), len(b.data)) })
	tried := slots{}
	for _, f := range files {
		whole := parseYAML(t, f.data)
		here := slots{}
		here.add(whole, "")
		for path, s := range here {
			if _, before := tried[path]; before {
				continue
			}
			written := *s.node
			for _, text := range s.strange {
				*s.node = *parseYAML(t, []byte(text))
				loadStrange(t, f.name, whole)
			}
			*s.node = written
		}
		maps.Copy(tried, here)
	}
}

// slots are the keys and values of a file by their paths, in which items of a
// list are not told apart: the first that has a field stands for the others.
type slots map[string]slot

type slot struct {
	node    *yaml.Node
	strange []string
}

func (s slots) add(n *yaml.Node, path string) {
	if _, there := s[path]; !there {
		s[path] = slot{n, strangeValues}
	}
	for i, inner := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			s.add(inner, path+"[]")
		case i%2 == 1:
			key := n.Content[i-1]
			s.add(inner, path+"."+key.Value)
			s[path+"."+key.Value+":"] = slot{key, strangeKeys}
		}
	}
}

func parseYAML(t *testing.T, data []byte) *yaml.Node {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return doc.Content[0]
}

// loadStrange loads a tree that may be none that YAML can write.
func loadStrange(t *testing.T, file string, whole *yaml.Node) {
	t.Helper()
	data, err := yaml.Marshal(whole)
	if err != nil {
		return
	}
	defer func() {
		if cause := recover(); cause != nil {
			t.Fatalf("panic: %v\n%s", cause, data)
		}
	}()
	c, err := load(file, data, Options{Getenv: testEnv})
	var all Errors
	if (c == nil) != errors.As(err, &all) {
		t.Errorf("load returns %v and %v", c, err)
	}
}
