package docs

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryLinkOfTheDocumentsHasATarget(t *testing.T) {
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

// TestHintsNamePagesThatExist finds references such as docs/storages.md, Permissions in all
// texts for users, such as hints and example files. The page must have that heading.
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
