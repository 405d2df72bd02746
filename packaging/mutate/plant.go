package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one change of the code, such as an omitted call.
type mutant struct {
	n      int    // from 1; 0: unchanged code
	dir    string // of its package
	kind   string
	in     string // the function
	source string // source text of the changed code
	nth    int    // number among equal mutants of this function, from 1
}

// String returns the mutant's name. It does not contain the file, so that the name stays
// the same when the function moves.
func (m mutant) String() string {
	s := fmt.Sprintf("%s %s: %s", m.kind, m.in, m.source)
	if m.nth > 1 {
		s += fmt.Sprintf(" #%d", m.nth)
	}
	return s
}

// plant writes a copy of each file below the target's directories with all mutants, which
// can be enabled one at a time. It also writes an overlay for the compiler that replaces
// the originals by these copies.
func (t *target) plant(dir string) (all []mutant, overlay string, err error) {
	replace := map[string]string{}
	packages := map[string]string{} // package names by directory
	seen := map[string]int{}
	for _, root := range t.roots {
		found, err := t.plantBelow(root, dir, len(all)+1, seen, replace, packages)
		if err != nil {
			return nil, "", err
		}
		all = append(all, found...)
	}
	for d, name := range packages {
		p := &planter{}
		if err := p.replace(replace, dir, filepath.Join(d, "mutant.go"), fmt.Sprintf(helpers, name)); err != nil {
			return nil, "", err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return all, overlay, os.WriteFile(overlay, b, 0o600)
}

func (t *target) plantBelow(root, dir string, from int, seen map[string]int, replace, packages map[string]string) (all []mutant, err error) {
	structs, err := structsOf(root)
	within := ""
	if len(t.roots) > 1 {
		within = filepath.Base(root) + "."
	}
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && filepath.Base(root) != e.Name() && filepath.Base(filepath.Dir(path)) == "vfs":
			return fs.SkipDir // the simulated disk
		case filepath.Base(filepath.Dir(path)) == "vfs" && !strings.HasPrefix(e.Name(), "disk"):
			return nil
		case e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "_race.go"):
			return nil
		}
		p := &planter{seen: seen, next: from + len(all), visit: t.visit, structs: structs, within: within}
		text, err := p.file(path)
		if err != nil {
			return err
		}
		all = append(all, p.mutants...)
		packages[filepath.Dir(path)] = p.pkg
		return p.replace(replace, dir, path, text)
	})
	return all, err
}

// structsOf returns the fields of each struct type of a package, with their types.
func structsOf(dir string) (map[string][][2]string, error) {
	structs := map[string][][2]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if n, ok := n.(*ast.TypeSpec); ok {
				if s, ok := n.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						for _, name := range f.Names {
							structs[n.Name.Name] = append(structs[n.Name.Name], [2]string{name.Name, fmt.Sprint(f.Type)})
						}
					}
				}
			}
			return true
		})
	}
	return structs, nil
}

// helpers is the code that the mutants call.
const helpers = `package %s

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
)

var (
	mutantOn, _    = strconv.Atoi(os.Getenv("MUTANT"))
	mutantReached  = os.Getenv("MUTANT_REACHED") // a file
	mutantsReached [1 << 12]atomic.Bool
)

// isMutant reports whether a mutant is on, and records that it was reached. If no mutant is
// on, it records every mutant that is reached.
func isMutant(n int) bool {
	if (n == mutantOn || mutantOn == 0) && mutantReached != "" && !mutantsReached[n].Swap(true) {
		if f, err := os.OpenFile(mutantReached, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, n)
			f.Close()
		}
	}
	return n == mutantOn
}

// unlessMutant calls do unless a mutant is on.
func unlessMutant(n int, do func() error) error {
	if isMutant(n) {
		return nil
	}
	return do()
}

// eitherMutant calls do, or other if a mutant is on.
func eitherMutant(n int, other, do func() error) error {
	if isMutant(n) {
		return other()
	}
	return do()
}

// unlessMutantThen returns value, or other if a mutant is on.
func unlessMutantThen[T any](n int, other, value T) T {
	if isMutant(n) {
		return other
	}
	return value
}
`

func (p *planter) replace(replace map[string]string, dir, path, text string) error {
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, strings.ReplaceAll(path, string(filepath.Separator), "-"))
	replace[full] = to
	return os.WriteFile(to, []byte(text), 0o600)
}

// planter plants the mutants of one file.
type planter struct {
	visit   func(*planter, ast.Node) bool
	structs map[string][][2]string // struct types of the package
	within  string                 // prefix of each function name
	path    string
	pkg     string
	src     string
	base    token.Pos
	seen    map[string]int
	next    int
	mutants []mutant
	edits   []edit
	in      string

	receiver, receives string // the receiver of the current function, and its type
}

// edit surrounds a part of the source with text, or swaps two parts.
type edit struct {
	from, to      int
	before, after string
	swap          *[4]int // start and end of the two parts to swap
	n             int
}

func (p *planter) file(path string) (text string, err error) {
	b, err := os.ReadFile(path) //nolint:gosec // a file of this module
	if err != nil {
		return "", err
	}
	p.src = string(b)
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, b, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	p.path, p.pkg, p.base = path, f.Name.Name, f.FileStart
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			p.in, p.receiver, p.receives = p.within+fn.Name.Name, "", ""
			if fn.Recv != nil && len(fn.Recv.List[0].Names) == 1 {
				p.receiver, p.receives = fn.Recv.List[0].Names[0].Name, strings.TrimPrefix(p.text(fn.Recv.List[0].Type), "*")
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool { return p.visit(p, n) })
		}
	}
	return p.render(0, len(p.src), nil), nil
}

func (p *planter) at(pos token.Pos) int { return int(pos - p.base) }

func (p *planter) text(n ast.Node) string { return p.src[p.at(n.Pos()):p.at(n.End())] }

var space = regexp.MustCompile(`\s+`)

// add plants a mutant.
func (p *planter) add(kind, source string, e edit) {
	e.n = p.number(kind, source)
	e.before, e.after = strings.ReplaceAll(e.before, "$N", fmt.Sprint(e.n)), strings.ReplaceAll(e.after, "$N", fmt.Sprint(e.n))
	p.edits = append(p.edits, e)
}

// number registers a mutant and returns its number.
func (p *planter) number(kind, source string) int {
	m := mutant{n: p.next, dir: filepath.Dir(p.path), kind: kind, in: p.in, source: space.ReplaceAllString(source, " ")}
	p.next++
	key := fmt.Sprint(m.kind, m.in, m.source)
	p.seen[key]++
	m.nth = p.seen[key]
	p.mutants = append(p.mutants, m)
	return m.n
}

// render returns a part of the source with its edits applied. within is the edit that
// contains this part, or nil.
func (p *planter) render(from, to int, within *edit) string {
	var inner []edit
	for _, e := range p.edits {
		if e.from >= from && e.to <= to && (within == nil || e.n > within.n) {
			inner = append(inner, e)
		}
	}
	// Outermost edits come first; equal ranges keep the order of planting.
	slices.SortFunc(inner, func(a, b edit) int {
		if a.from != b.from {
			return a.from - b.from
		}
		if a.to != b.to {
			return b.to - a.to
		}
		return a.n - b.n
	})
	out, at := "", from
	for _, e := range inner {
		if e.from < at {
			continue // part of an edit that is already rendered
		}
		out += p.src[at:e.from]
		if e.swap != nil {
			s := e.swap
			a, b := p.render(s[0], s[1], &e), p.render(s[2], s[3], &e)
			out += fmt.Sprintf("if isMutant(%d) {\n%s\n%s\n} else {\n%s\n%s\n}", e.n, b, a, a, b)
		} else {
			out += e.before + p.render(e.from, e.to, &e) + e.after
		}
		at = e.to
	}
	return out + p.src[at:to]
}
