//go:build packages

package test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const releasedVersion = "1.2.3-rc.1"

// repository makes a git repository of the tree with a version's changes and tag.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mustExec(t, "sh", "-ec", `cd ../..
		git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"
		cd "$1"
		sed -i "s/^## \[Unreleased\]$/&\n\n## [$2] - 2026-01-02\n\n- All of it.\n\n## [1.2.2] - 2026-01-01/" CHANGELOG.md
		git init -q
		git add -A
		export GIT_COMMITTER_DATE='2026-01-02T03:04:05Z'
		git -c user.name=x -c user.email=x@example.com -c commit.gpgsign=false commit -q -m x
		git -c tag.gpgsign=false tag "v$2"`, "sh", dir, releasedVersion)
	return dir
}

// release makes a release from a clone of the repository, with another umask.
func release(t *testing.T, repository, umask string) string {
	t.Helper()
	clone, out := filepath.Join(t.TempDir(), "clone"), t.TempDir()
	mustExec(t, "sh", "-ec", `umask "$1"
		git clone -q "$2" "$3"
		cd "$3"
		go run ./packaging/release build "v$5" "$4"`, "sh", umask, repository, clone, out, releasedVersion)
	return filepath.Join(out, releasedVersion)
}

// TestAReleaseIsCompleteAndReproducible builds one version twice, in two directories.
func TestAReleaseIsCompleteAndReproducible(t *testing.T) {
	t.Parallel()
	requirePrograms(t, "git", "dpkg-deb", "sha256sum")
	if os.Getenv("NFPM") == "" {
		t.Fatal("NFPM names no program: run make package-test")
	}
	source := repository(t)
	first, second := release(t, source, "022"), release(t, source, "077")
	names := func(dir string) (all []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return all
	}
	want := []string{
		"SHA256SUMS", "collectord-1.2.3-rc.1-changes.md",
		"collectord-1.2.3-rc.1-linux-amd64", "collectord-1.2.3-rc.1-linux-amd64.cdx.json",
		"collectord-1.2.3-rc.1-linux-arm64", "collectord-1.2.3-rc.1-linux-arm64.cdx.json",
		"collectord-1.2.3~rc.1-1.aarch64.rpm", "collectord-1.2.3~rc.1-1.x86_64.rpm",
		"collectord_1.2.3~rc.1-1_amd64.deb", "collectord_1.2.3~rc.1-1_arm64.deb",
	}
	if got := names(first); !slices.Equal(got, want) || !slices.Equal(names(second), want) {
		t.Fatalf("released %q, and again %q, want %q", got, names(second), want)
	}
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, name := range want {
		if !bytes.Equal(read(filepath.Join(first, name)), read(filepath.Join(second, name))) {
			t.Errorf("%s differs", name)
		}
	}
	mustExec(t, "sh", "-c", `cd "$1" && sha256sum --check --strict SHA256SUMS`, "sh", first)
	if sums := read(filepath.Join(first, "SHA256SUMS")); bytes.Count(sums, []byte("\n")) != len(want)-1 {
		t.Errorf("checksums:\n%s", sums)
	}
	if changes := read(filepath.Join(first, want[1])); string(changes) != "- All of it.\n" {
		t.Errorf("changes: %s", changes)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		binary := filepath.Join(first, "collectord-"+releasedVersion+"-linux-"+arch)
		f, err := elf.Open(binary)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is not static", filepath.Base(binary))
		}
		f.Close()
		unpacked := t.TempDir()
		mustExec(t, "dpkg-deb", "--extract", filepath.Join(first, "collectord_1.2.3~rc.1-1_"+arch+".deb"), unpacked)
		if !bytes.Equal(read(filepath.Join(unpacked, "usr/bin/collectord")), read(binary)) {
			t.Errorf("the package for %s has another binary", arch)
		}
		copyright := read(filepath.Join(unpacked, "usr/share/doc/collectord/copyright"))
		for line := range strings.Lines(mustExec(t, "go", "version", "-m", binary)) {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "dep" && !bytes.Contains(copyright, []byte("\nFiles: "+f[1]+"/*\n")) {
				t.Errorf("%s is linked, and its licence is not in the package", f[1])
			}
		}
		docs, err := filepath.Glob(filepath.Join(source, "docs/*.md"))
		if err != nil || len(docs) == 0 {
			t.Fatalf("docs: %q, %v", docs, err)
		}
		for _, path := range append(docs, filepath.Join(source, "README.md"), filepath.Join(source, "wal/FORMAT.md"), filepath.Join(source, "packaging/metrics.md")) {
			doc := strings.TrimPrefix(path, source)
			if !bytes.Equal(read(filepath.Join(unpacked, "usr/share/doc/collectord", doc)), read(path)) {
				t.Errorf("%s differs in the package", doc)
			}
		}
	}
}
