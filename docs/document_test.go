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

// document is README.md or a page in docs/.
type document struct {
	path     string // from the root of the tree
	text     string
	prose    string // text without blocks of code
	anchors  []string
	links    []link
	labels   map[string]link // link definitions
	usedTags []string        // labels that links refer to
}

// link is the target of a link as written. A link definition also has a title.
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

// documents reads README.md and all pages in docs/.
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

// slug returns the anchor of a heading.
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

// eachFile calls a function with the path of each file of the tree. It skips files that git
// does not track.
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
