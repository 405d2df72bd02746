package main

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// TestOnlyATaggedVersionWithItsChangesIsReleased uses its own git repository.
func TestOnlyATaggedVersionWithItsChangesIsReleased(t *testing.T) {
	dir := t.TempDir()
	gitIn := func(args ...string) {
		t.Helper()
		if _, err := git(dir, append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	changelog := filepath.Join(dir, "CHANGELOG.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(changelog, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checkRefused := func(version, reason string) {
		t.Helper()
		if _, err := check(dir, version); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q", version, err, reason)
		}
	}
	if _, err := exec.LookPath("git"); err != nil && os.Getenv("ALLOW_MISSING") == "1" {
		t.Skip("git is not installed")
	}
	write("# Changelog\n\n## [Unreleased]\n\n## 1.2.4\n\n## [1.2.3] - 2026-11-27\n\n- A line.\n\n- Another.\n\n## 1.2.3-rc.1\n\n- Its own.\n")
	gitIn("init", "-q")
	gitIn("add", "-A")
	gitIn("commit", "-qm", "x")
	for _, version := range []string{"", "1.2", "v1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+5", "abc1234", "1.2.3-rc.1\n"} {
		checkRefused(version, "is not a version")
	}
	checkRefused("1.2.2", "no section")
	checkRefused("1.2.4", "the section is empty")
	checkRefused("1.2.3", "no tag v1.2.3")
	gitIn("tag", "v1.2.3")
	gitIn("tag", "-am", "annotated", "v1.2.3-rc.1")
	for version, changes := range map[string]string{"1.2.3": "- A line.\n\n- Another.", "v1.2.3": "- A line.\n\n- Another.", "1.2.3-rc.1": "- Its own."} {
		if r, err := check(dir, version); err != nil || r.changes != changes || r.version != strings.TrimPrefix(version, "v") || r.commitSeconds == "" {
			t.Errorf("%s: %+v, %v", version, r, err)
		}
	}
	write("# Changelog\n\n## 1.2.3\n\n- Changed since.\n")
	checkRefused("1.2.3", "the tree differs")
	gitIn("commit", "-qam", "y")
	checkRefused("1.2.3", "is not on the commit that is checked out")
}

// TestTheLicenceOfEachLinkedModuleIsInTheCopyrightFile: linkedModules also fails for an
// unknown licence.
func TestTheLicenceOfEachLinkedModuleIsInTheCopyrightFile(t *testing.T) {
	all, err := linkedModules(".")
	if err != nil {
		t.Fatal(err)
	}
	text := copyrightOf(all)
	for _, m := range all {
		_, after, found := strings.Cut(text, "\nFiles: "+m.path+"/*\n")
		if !found || !strings.Contains(strings.SplitN(after, "\n\n", 2)[0], "\nLicense: ") {
			t.Errorf("%s has no licence", m.path)
		}
	}
	for _, path := range []string{"std", "github.com/tidwall/wal", "github.com/klauspost/compress"} {
		if !strings.Contains(text, "\nFiles: "+path+"/*\n") {
			t.Errorf("%s is linked but not listed", path)
		}
	}
	if strings.Contains(text, "TERMS AND CONDITIONS FOR USE") {
		t.Error("the terms of the Apache License are included")
	}
}

func TestLicencesAreRecognizedByTheirWords(t *testing.T) {
	const bsd = "Redistribution and use in source and binary\nforms, with or without"
	for text, want := range map[string]string{
		"":  "",
		"x": "",
		"Permission is hereby granted,\nfree of charge": "MIT",
		bsd: "BSD-2-Clause",
		bsd + " ... * Neither the name of Google Inc. nor":                         "BSD-3-Clause",
		"Apache License\n Version 2.0, January 2004\n" + bsd + " Neither the name": "Apache-2.0 AND BSD-3-Clause",
	} {
		if got := licenceOf(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestTheBillOfMaterialsListsLinkedModules(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.com/a", Version: "v1.0.0"},
		{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
	}}
	known := []module{{path: "std", licence: "BSD-3-Clause"}, {path: "example.com/a", licence: "MIT"}, {path: "example.com/c", licence: "Apache-2.0 AND MIT"}}
	b, err := sbomOf(info, sha256.Sum256(nil), "1.2.3", "", known)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range b.Components {
		got = append(got, c.PURL+" "+c.Licences[0].Expression)
	}
	want := "pkg:golang/std@1.26.0 BSD-3-Clause, pkg:golang/example.com/a@v1.0.0 MIT, pkg:golang/example.com/c@v2.0.0 Apache-2.0 AND MIT"
	if strings.Join(got, ", ") != want {
		t.Errorf("components %q", got)
	}
	if _, err := sbomOf(info, sha256.Sum256(nil), "1.2.3", "", known[:2]); err == nil || !strings.Contains(err.Error(), "example.com/c") {
		t.Errorf("a module without a known licence: %v", err)
	}
}
