package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// semver matches Semantic Versioning 2.0.0 without build metadata, which has no effect on
// precedence.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?$`)

// released is a version that can be released.
type released struct {
	version       string // without the v of the tag
	changes       string // the changelog's section
	commitSeconds string // time of the commit, in seconds since 1970
}

// check returns the release data of the module at dir, or an error if the version can't be
// released.
func check(dir, version string) (r released, err error) {
	r.version = strings.TrimPrefix(version, "v")
	if !semver.MatchString(r.version) {
		return r, fmt.Errorf("%q is not a version like 1.2.3 or 1.2.3-rc.1", version)
	}
	changelog, err := os.ReadFile(filepath.Join(dir, "CHANGELOG.md")) //nolint:gosec // a file of this module
	if err != nil {
		return r, err
	}
	if r.changes = section(string(changelog), r.version); r.changes == "" {
		return r, fmt.Errorf("CHANGELOG.md has no section ## [%s], or the section is empty", r.version)
	}
	at, err := git(dir, "rev-parse", "-q", "--verify", "refs/tags/v"+r.version+"^{commit}")
	if err != nil {
		return r, fmt.Errorf("there is no tag v%s: create it with git tag v%s", r.version, r.version)
	}
	switch head, err := git(dir, "rev-parse", "HEAD"); {
	case err != nil:
		return r, err
	case head != at:
		return r, fmt.Errorf("the tag v%s is not on the commit that is checked out", r.version)
	}
	switch changed, err := git(dir, "status", "--porcelain"); {
	case err != nil:
		return r, err
	case changed != "":
		return r, fmt.Errorf("the tree differs from the commit:\n%s", changed)
	}
	r.commitSeconds, err = git(dir, "log", "-1", "--format=%ct")
	return r, err
}

// section returns the text below a version's heading in the changelog. The heading may
// have a date after the version.
func section(changelog, version string) string {
	heading := regexp.MustCompile(`(?m)^## \[?` + regexp.QuoteMeta(version) + `\]?(\s.*)?$`).FindStringIndex(changelog)
	if heading == nil {
		return ""
	}
	text := changelog[heading[1]:]
	if end := strings.Index(text, "\n## "); end >= 0 {
		text = text[:end]
	}
	return strings.TrimSpace(text)
}

func git(dir string, args ...string) (string, error) {
	out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).Output() //nolint:gosec // fixed program
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = fmt.Errorf("git %s: %w: %s", args[0], err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
