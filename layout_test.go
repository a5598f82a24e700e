package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// These tests hold the rules of layout and taste that a compiler does not.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "sql2metrics"

// mayImport is the one import rule: config ← sources ← agent/… → wal. A key
// that ends in /... stands for a package and all below it.
var mayImport = map[string][]string{
	".":           {"agent/cli"},
	"config":      {},
	"wal":         {},
	"sources/...": {"config", "sources/..."},
	"agent/...":   {"config", "sources/...", "wal", "agent/..."},
	"e2e/...":     {"config", "sources/...", "wal", "agent/...", "e2e/..."},
}

// externalTests are what an external test package may import beside that, where
// only its own package lets it say what it tests.
var externalTests = map[string][]string{
	"wal": {"config", "agent/remotewrite"}, // what receivers make of two format versions
}

// notLinked are packages of Prometheus that only tests may use: they would
// double the binary.
var notLinked = []string{
	"github.com/prometheus/prometheus/storage/remote",
	"github.com/prometheus/prometheus/tsdb",
	"github.com/prometheus/prometheus/tsdb/agent",
	"github.com/prometheus/prometheus/tsdb/wlog",
	"github.com/prometheus/prometheus/promql",
	"github.com/prometheus/prometheus/promql/parser",
	"github.com/prometheus/prometheus/scrape",
	"testing",
}

const maxLines = 500

type goPackage struct {
	ImportPath, Dir, Name              string
	GoFiles, IgnoredGoFiles            []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
}

func (p goPackage) path() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func (p goPackage) code() []string  { return slices.Concat(p.GoFiles, p.IgnoredGoFiles) }
func (p goPackage) tests() []string { return slices.Concat(p.TestGoFiles, p.XTestGoFiles) }

func TestImportRule(t *testing.T) {
	for _, p := range packages(t) {
		allowed, ok := rule(p.path())
		if !ok {
			t.Errorf("package %s: the layout has no such place", p.path())
			continue
		}
		for _, imported := range p.Imports {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.ContainsFunc(allowed, matches(ours)) {
				t.Errorf("package %s must not import %s", p.path(), ours)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			ours, ok := strings.CutPrefix(imported, module+"/")
			external := slices.Contains(p.XTestImports, imported) && slices.Contains(externalTests[p.path()], ours)
			if ok && !external && ours != p.path() && !strings.HasPrefix(ours, "e2e/") && !slices.ContainsFunc(allowed, matches(ours)) {
				t.Errorf("tests of package %s must not import %s", p.path(), ours)
			}
		}
	}
}

func TestBinaryLinksNoServerCode(t *testing.T) {
	deps := strings.Fields(string(goList(t, "-deps", ".")))
	for _, forbidden := range notLinked {
		if slices.Contains(deps, forbidden) {
			t.Errorf("the program links %s", forbidden)
		}
	}
}

func TestPackages(t *testing.T) {
	for _, p := range packages(t) {
		t.Run(p.path(), func(t *testing.T) {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "mocks", "misc"}, path.Base(p.path())) {
				t.Error("a package is named for what it is, not for what it is not")
			}
			files := parse(t, p.Dir, p.code())
			documented := slices.ContainsFunc(files, func(f *ast.File) bool { return f.Doc != nil })
			if len(files) > 0 && !documented {
				t.Error("no package comment")
			}
			for _, f := range files {
				checkDeclarations(t, f)
			}
			if tests := parse(t, p.Dir, p.tests()); len(tests) > 0 && !slices.ContainsFunc(tests, verifiesLeaks) {
				t.Error("no TestMain that calls goleak.VerifyTestMain")
			}
		})
	}
}

// checkDeclarations reports init functions and exported identifiers without a
// doc comment.
func checkDeclarations(t *testing.T, f *ast.File) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				t.Error("func init: say what happens where it happens")
			}
			if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
				t.Errorf("func %s has no doc comment", d.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				checkSpec(t, d, spec)
			}
		}
	}
}

func checkSpec(t *testing.T, d *ast.GenDecl, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
			t.Errorf("type %s has no doc comment", s.Name)
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%s has no doc comment", name)
			}
		}
	}
}

// exportedReceiver tells whether d is a function, or a method of an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func verifiesLeaks(f *ast.File) bool {
	found := false
	for _, decl := range f.Decls {
		if d, ok := decl.(*ast.FuncDecl); ok && d.Name.Name == "TestMain" {
			found = found || calls(d, "goleak", "VerifyTestMain")
		}
	}
	return found
}

// calls tells whether n holds a call of pkg.name.
func calls(n ast.Node, pkg, name string) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			id, ok := sel.X.(*ast.Ident)
			found = found || ok && id.Name == pkg && sel.Sel.Name == name
		}
		return !found
	})
	return found
}

func imports(f *ast.File, path string) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

func TestNoTestSleeps(t *testing.T) {
	for _, p := range packages(t) {
		if strings.HasPrefix(p.path(), "e2e") {
			continue // real servers, polled with a deadline
		}
		for _, f := range parse(t, p.Dir, p.tests()) {
			if calls(f, "time", "Sleep") && !imports(f, "testing/synctest") { // its clock costs nothing
				t.Errorf("a test of package %s sleeps; call the step with the time it should see", p.path())
			}
		}
	}
}

func TestFiles(t *testing.T) {
	machinePath := regexp.MustCompile(`(^|[^\w.])/(root|work|Users|home)/\w`)
	leftOver := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|no` + `lint)\b`)
	for _, name := range files(t) {
		content, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // tests of other packages run beside this one
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(content, 0) >= 0 {
			continue
		}
		if where := machinePath.Find(content); where != nil {
			t.Errorf("%s holds a path of somebody's machine: %s", name, where)
		}
		if word := leftOver.Find(content); word != nil {
			t.Errorf("%s holds a %s", name, word)
		}
		lines := bytes.Count(content, []byte("\n"))
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && lines > maxLines {
			t.Errorf("%s has %d lines, over %d: look for its second topic", name, lines, maxLines)
		}
	}
}

func TestDockerfile(t *testing.T) {
	content, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for what, pattern := range map[string]string{
		"a build stage":                    `(?m)^FROM .*golang:1\.26\S* AS build$`,
		"a last stage with nothing in it":  `(?m)^FROM scratch$`,
		"certificates":                     `(?m)^COPY --from=build \S*ca-certificates\.crt `,
		"a numeric user":                   `(?m)^USER [1-9]\d*:[1-9]\d*$`,
		"a data folder that the user owns": `(?m)^COPY --from=build --chown=65532:65532 \S+ /data$`,
		"a volume":                         `(?m)^VOLUME /data$`,
		"the default port":                 `(?m)^EXPOSE 9399$`,
		"the program as entry point":       `(?m)^ENTRYPOINT \["/sql2metrics"\]$`,
	} {
		if !regexp.MustCompile(pattern).Match(content) {
			t.Errorf("Dockerfile lacks %s: %s", what, pattern)
		}
	}
	stages := strings.Split(string(content), "\nFROM ")
	if last := stages[len(stages)-1]; strings.Contains(last, "\nRUN ") {
		t.Error("the last stage has no shell to RUN anything with")
	}
}

// rule returns what the package at path may import.
func rule(at string) (allowed []string, ok bool) {
	for pattern, imports := range mayImport {
		if matches(at)(pattern) {
			return imports, true
		}
	}
	return nil, false
}

// matches returns a predicate that tells whether a pattern covers the path.
func matches(at string) func(pattern string) bool {
	return func(pattern string) bool {
		parent, below := strings.CutSuffix(pattern, "/...")
		return at == parent || below && strings.HasPrefix(at, parent+"/")
	}
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list %s: %s", strings.Join(args, " "), exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(goList(t, "-json", "./..."))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func parse(t *testing.T, dir string, names []string) []*ast.File {
	t.Helper()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// files returns the names of all files of the tree.
func files(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != ".":
			return nil // gone since it was listed
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "data"}, name):
			return filepath.SkipDir
		case d.Type().IsRegular():
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
