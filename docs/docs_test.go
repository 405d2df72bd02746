// Package docs tests README.md and the pages beside it: links, names, lengths.
package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// document is README.md or a page of docs/.
type document struct {
	path     string // from the root of the tree
	text     string
	prose    string // text without blocks of code
	anchors  []string
	links    []link
	labels   map[string]link // link definitions
	usedTags []string        // labels that links refer to
}

// link is a target as it is written, and the title of a link definition.
type link struct{ target, title string }

var (
	fence      = regexp.MustCompile("(?ms)^```.*?^```$")
	codeSpan   = regexp.MustCompile("``[^`].*?``|`[^`\n]+`")
	heading    = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	inline     = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	image      = regexp.MustCompile(`(?:src|href)="([^"]+)"`)
	reference  = regexp.MustCompile(`\]\[([\w-]+)\]`)
	shortcut   = regexp.MustCompile(`[( ]\[([\w-]+)\][^\[(\w]`)
	definition = regexp.MustCompile(`(?m)^\[([\w-]+)\]: (\S+)(?: "(.*)")?$`)
	unslugged  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// documents are README.md and all pages of docs/.
func documents(t *testing.T) map[string]*document {
	t.Helper()
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	all := map[string]*document{}
	for _, file := range append(pages, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := readDocument(t, strings.TrimPrefix(path.Join("docs", file), "../"), string(text))
		all[d.path] = d
	}
	return all
}

func readDocument(t *testing.T, name, text string) *document {
	t.Helper()
	d := &document{path: name, text: text, labels: map[string]link{}}
	var prose strings.Builder
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		if !strings.HasPrefix(line, "    ") {
			prose.WriteString(line)
		}
	}
	d.prose = prose.String()
	for _, h := range heading.FindAllStringSubmatch(d.prose, -1) {
		d.anchors = append(d.anchors, slug(h[1]))
	}
	for _, m := range definition.FindAllStringSubmatch(d.prose, -1) {
		if _, twice := d.labels[m[1]]; twice {
			t.Errorf("%s: [%s] is defined twice", name, m[1])
		}
		d.labels[m[1]] = link{m[2], m[3]}
	}
	words := codeSpan.ReplaceAllString(definition.ReplaceAllString(d.prose, ""), "`code`")
	for _, m := range slices.Concat(inline.FindAllStringSubmatch(words, -1), image.FindAllStringSubmatch(words, -1)) {
		d.links = append(d.links, link{target: m[1]})
	}
	for _, m := range slices.Concat(reference.FindAllStringSubmatch(words, -1), shortcut.FindAllStringSubmatch(words, -1)) {
		d.usedTags = append(d.usedTags, m[1])
	}
	return d
}

// slug is the anchor that a heading gets.
func slug(heading string) string {
	return strings.ReplaceAll(unslugged.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// resolve returns the file of the tree that a target names, and the anchor in it. A target
// outside the tree has no file.
func (d *document) resolve(target string) (file, anchor string) {
	if strings.Contains(target, "://") {
		return "", ""
	}
	file, anchor, _ = strings.Cut(target, "#")
	if file == "" {
		return d.path, anchor
	}
	return path.Join(path.Dir(d.path), file), anchor
}

func TestEachLinkOfTheDocumentsLeadsSomewhere(t *testing.T) {
	all := documents(t)
	for _, d := range all {
		for _, l := range d.links {
			file, anchor := d.resolve(l.target)
			if file == "" {
				continue
			}
			if _, err := os.Stat("../" + file); err != nil {
				t.Errorf("%s links to %s: %v", d.path, l.target, err)
				continue
			}
			if anchor == "" {
				continue
			}
			if to := all[file]; to == nil || !slices.Contains(to.anchors, anchor) {
				t.Errorf("%s links to %s: no heading has this anchor", d.path, l.target)
			}
		}
		for _, label := range d.usedTags {
			if _, ok := d.labels[label]; !ok {
				t.Errorf("%s: [%s] is not defined", d.path, label)
			}
		}
		for label := range d.labels {
			if !slices.Contains(d.usedTags, label) {
				t.Errorf("%s: [%s] is not used", d.path, label)
			}
		}
		for i, a := range d.anchors {
			if slices.Contains(d.anchors[:i], a) {
				t.Errorf("%s has two headings #%s", d.path, a)
			}
		}
	}
}

// TestDocumentsNameTestsThatExist reads link definitions such as
//
//	[kill]: ../collectord/e2e_test.go "TestA, TestB: why; TestC in wal/log_test.go"
func TestDocumentsNameTestsThatExist(t *testing.T) {
	test := regexp.MustCompile(`Test\w+`)
	elsewhere := regexp.MustCompile(`in (\S+_test\.go)`)
	defined := 0
	for _, d := range documents(t) {
		for label, l := range d.labels {
			defined++
			if !test.MatchString(l.title) {
				t.Errorf("%s: [%s] names no test", d.path, label)
			}
			for part := range strings.SplitSeq(l.title, ";") {
				file, _ := d.resolve(l.target)
				if m := elsewhere.FindStringSubmatch(part); m != nil {
					file = m[1]
				}
				source, err := os.ReadFile("../" + file)
				if err != nil {
					t.Errorf("%s: %v", d.path, err)
					continue
				}
				for _, name := range test.FindAllString(part, -1) {
					if !strings.Contains(string(source), "func "+name+"(t *testing.T)") {
						t.Errorf("%s: [%s]: there is no %s in %s", d.path, label, name, file)
					}
				}
			}
		}
	}
	if defined < 50 {
		t.Errorf("%d link definitions", defined)
	}
}

// TestDocumentsNameFilesThatExist looks for files of the tree that are named in prose: in
// backquotes, or ending with .md.
func TestDocumentsNameFilesThatExist(t *testing.T) {
	file := regexp.MustCompile(`^[\w./-]+\.(go|md|yaml|yml|conf|cfg|service|json|pgo|5)(:\d+)?$`)
	directory := regexp.MustCompile(`^(collectord|config|docs|packaging|shipper|wal)(/[\w-]+)*/$`)
	page := regexp.MustCompile(`[\w./-]+\.md\b`)
	bases := map[string]bool{}
	eachFile(t, func(name string) { bases[path.Base(name)] = true })
	named := 0
	for _, d := range documents(t) {
		names := page.FindAllString(d.prose, -1)
		for _, span := range codeSpan.FindAllString(d.prose, -1) {
			name := strings.Trim(span, "`")
			switch isFile := file.MatchString(name) && !path.IsAbs(name) && !strings.HasPrefix(name, "_"); {
			case isFile && strings.Contains(name, "/"), directory.MatchString(name):
				names = append(names, name)
			case strings.HasSuffix(name, ".go") && isFile && !bases[name]:
				t.Errorf("%s names %s, and there is no such file", d.path, name)
			}
		}
		for _, name := range names {
			named++
			inTree, _ := d.resolve(name)
			_, beside := os.Stat("../" + inTree)
			_, fromRoot := os.Stat("../" + name)
			if beside != nil && fromRoot != nil {
				t.Errorf("%s names %s: %v", d.path, name, fromRoot)
			}
		}
	}
	if named < 50 {
		t.Errorf("%d files are named", named)
	}
}

func TestDocumentsAreShort(t *testing.T) {
	for _, d := range documents(t) {
		most := 300
		switch lines := strings.Count(d.text, "\n"); {
		case strings.Contains(d.text, "<!-- Generated"):
		case d.path == "README.md" && lines > 150, lines > most:
			t.Errorf("%s has %d lines", d.path, lines)
		}
	}
}

// TestReadersFindTheirWay checks that what somebody new looks for is at most three clicks
// away from the README: that many links lead to the page that has it.
func TestReadersFindTheirWay(t *testing.T) {
	all := documents(t)
	clicks := map[string]int{"README.md": 0}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, l := range all[queue[0]].links {
			file, _ := all[queue[0]].resolve(l.target)
			if _, seen := clicks[file]; !seen && all[file] != nil {
				clicks[file] = clicks[queue[0]] + 1
				queue = append(queue, file)
			}
		}
	}
	for name := range all {
		if n, ok := clicks[name]; !ok || n > 2 {
			t.Errorf("%s can't be reached from the README in two clicks", name)
		}
	}
	for what, there := range map[string]struct{ page, text string }{
		"install":                            {"README.md", "apt install ./collectord"},
		"a first usage":                      {"README.md", "curl -H 'Content-Type: application/json'"},
		"a token":                            {"docs/http-api.md", "collectord token new"},
		"MinIO":                              {"docs/storages.md", "To ship to MinIO"},
		"a query":                            {"docs/queries.md", "FROM read_json"},
		"what happens at power loss":         {"docs/guarantees.md", "The host loses power"},
		"what to do when shipping fails":     {"docs/shipping.md", "what to do |"},
		"where the UDP server's code begins": {"docs/architecture.md", "`collectord/udpserver/server.go`"},
	} {
		if d := all[there.page]; d == nil || !strings.Contains(d.text, there.text) || clicks[there.page] > 3 {
			t.Errorf("%s: %s does not have %q within three clicks", what, there.page, there.text)
		}
	}
}

// TestTheQuickStartIsWhatMakeRunPrints compares the commands of the README with the hints
// of make run.
func TestTheQuickStartIsWhatMakeRunPrints(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	readme := documents(t)["README.md"].text
	for _, command := range regexp.MustCompile(`(?m)^  (curl|bin/collectord) .*$`).FindAllString(string(makefile), -1) {
		if command = strings.TrimSpace(command); !strings.Contains(readme, "```sh\n"+command+"\n```") {
			t.Errorf("README.md lacks %s", command)
		}
	}
}

// TestHintsNamePagesThatExist looks in everything that users read, such as hints and
// example files, for pages such as docs/storages.md, Permissions: the page has that heading.
func TestHintsNamePagesThatExist(t *testing.T) {
	all := documents(t)
	hint := regexp.MustCompile(`\bdocs/[\w-]+\.md(?:, ([A-Z][a-z]*(?: [a-z]+)*))?`)
	hints := 0
	eachFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") || all[name] != nil || name == "CHANGELOG.md" {
			return
		}
		text, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "README,") || strings.Contains(string(text), "The README says") {
			t.Errorf("%s refers to a section of the README: name a page of docs/", name)
		}
		for _, m := range hint.FindAllStringSubmatch(string(text), -1) {
			hints++
			page, section, _ := strings.Cut(m[0], ", ")
			if d := all[page]; d == nil || section != "" && !slices.Contains(d.anchors, slug(section)) {
				t.Errorf("%s names %q: there is no such page, or no such heading on it", name, m[0])
			}
		}
	})
	if hints < 10 {
		t.Errorf("%d hints", hints)
	}
}

// eachFile calls a function with each file of the tree, by its path from the root. Files
// that git does not keep are left out.
func eachFile(t *testing.T, call func(name string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(file, "../")
		switch hidden := strings.HasPrefix(name, ".") && name != ".."; {
		case e.IsDir() && (hidden || name == "bin" || name == "var" || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.Type().IsRegular():
			call(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheKindsOfFailuresAreDocumented compares the table of docs/shipping.md with the code:
// each phrase that it quotes is in a hint, and each kind that the code names has a row.
func TestTheKindsOfFailuresAreDocumented(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"../shipper/*.go", "../shipper/bucket/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 10 {
			t.Fatalf("%d files: %v", len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				code.Write(text)
			}
		}
	}
	_, table, _ := strings.Cut(documents(t)["docs/shipping.md"].text, "\n| kind |")
	rows := regexp.MustCompile(`(?m)^\| ([^|]*) \| ([^|]*) \| [^|]+ \|$`).FindAllStringSubmatch(table, -1)
	if len(rows) < 30 {
		t.Fatalf("%d rows", len(rows))
	}
	kinds := ""
	for _, row := range rows {
		kinds += row[1]
		for _, phrase := range regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(row[2], -1) {
			for part := range strings.SplitSeq(phrase[1], "…") {
				if !strings.Contains(code.String(), strings.TrimSpace(part)) {
					t.Errorf("no hint has %q", part)
				}
			}
		}
	}
	named := regexp.MustCompile(`(?m)\bKind: +"(\w+)"|\.Kind\b[^=\n]*= "(\w+)"|^\t\w+ += "(\w+)" +// .*(?:storage|answer|put)|kindDamaged = "(\w+)"`)
	for _, m := range named.FindAllStringSubmatch(code.String(), -1) {
		if kind := strings.Join(m[1:], ""); !strings.Contains(kinds, "`"+kind+"`") {
			t.Errorf("docs/shipping.md has no row for the kind %s", kind)
		}
	}
}
