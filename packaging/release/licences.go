package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// module is a Go module that is linked into the daemon.
type module struct {
	path, version string
	licence       string // SPDX expression
	text          string // of its licence and notice files
}

// architectures are the targets of a release.
var architectures = []string{"amd64", "arm64"}

// linkedModules returns the modules that are linked into the daemon, ordered by path. Go's
// standard library is included as std. dir is the directory of any package of this module.
func linkedModules(dir string) (all []module, err error) {
	goroot, err := runOutput(dir, nil, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	all = []module{{path: "std", version: strings.TrimPrefix(runtime.Version(), "go")}}
	dirs := map[string][]string{"std": {goroot}}
	for _, arch := range architectures {
		list, err := runOutput(dir, []string{"GOOS=linux", "CGO_ENABLED=0", "GOARCH=" + arch},
			"go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}\t{{$.Dir}}{{end}}{{end}}", "collectord/collectord")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(list) {
			f := strings.Split(strings.TrimSpace(line), "\t")
			if len(f) != 4 {
				continue
			}
			if dirs[f[0]] == nil {
				all = append(all, module{path: f[0], version: f[1]})
			}
			for d := f[3]; strings.HasPrefix(d, f[2]); d = filepath.Dir(d) { // a package can have its own licence
				if !slices.Contains(dirs[f[0]], d) {
					dirs[f[0]] = append(dirs[f[0]], d)
				}
			}
		}
	}
	for i := range all {
		if all[i].text, err = licenceText(dirs[all[i].path]); err != nil {
			return nil, err
		}
		if all[i].licence = licenceOf(all[i].text); all[i].licence == "" {
			return nil, fmt.Errorf("%s: the licence is not known: add its kind to licenceKinds", all[i].path)
		}
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// licenceText joins the licence files in the directories of a module, which must be
// distributed with its binary.
func licenceText(dirs []string) (string, error) {
	var all []string
	slices.Sort(dirs)
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return "", err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
				continue
			}
			b, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a file of a module
			if err != nil {
				return "", err
			}
			if text := strings.TrimSpace(strings.ReplaceAll(string(b), "\r\n", "\n")); !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return strings.Join(all, "\n\n"), nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([._-].*)?$`)

// licenceKinds maps licences to words that only they contain.
var licenceKinds = []struct {
	id    string
	words *regexp.Regexp
}{
	{"Apache-2.0", regexp.MustCompile(`Apache License,? Version 2\.0`)},
	{"BSD-3-Clause", regexp.MustCompile(`Redistribution and use in source and binary forms.*(Neither the name|names? of .{1,80} (may|to) )`)},
	{"BSD-2-Clause", regexp.MustCompile(`Redistribution and use in source and binary forms`)},
	{"ISC", regexp.MustCompile(`Permission to use, copy, modify, and/?or? distribute this software`)},
	{"MIT", regexp.MustCompile(`Permission is hereby granted, free of charge`)},
	{"MPL-2.0", regexp.MustCompile(`Mozilla Public License,? (Version|v\.) 2\.0`)},
}

// licenceOf returns the SPDX expression for a text, which may contain several licences.
func licenceOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	var all []string
	for _, k := range licenceKinds {
		if k.words.MatchString(text) && (k.id != "BSD-2-Clause" || !slices.Contains(all, "BSD-3-Clause")) {
			all = append(all, k.id)
		}
	}
	return strings.Join(all, " AND ")
}

// runOutput runs a program in dir and returns its standard output.
func runOutput(dir string, environment []string, name string, args ...string) (string, error) {
	c := exec.Command(name, args...) //nolint:gosec // callers pass fixed programs
	c.Dir = dir
	c.Env = append(os.Environ(), environment...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, args[0], err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
