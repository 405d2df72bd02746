//go:build packages

package test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"collectord/collectord/testrun"
)

// The packages are built once for all tests, in two versions.
const (
	earlier = "1.0.0"
	later   = "1.0.1"
)

// build makes the packages of a version from the tree at source. The script gets time, place
// and user only from its arguments.
func build(source, out, version, umask string, architectures ...string) error {
	c := exec.Command("sh", append([]string{"-c", `umask "$1" && shift && exec packaging/package "$@"`, "sh", umask, out}, architectures...)...)
	c.Dir = source
	c.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1764000000")
	if output, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("packaging/package: %w: %s", err, output)
	}
	return nil
}

var buildDir string // removed by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "collectord-packages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

var built = map[string]func() error{
	earlier: sync.OnceValue(func() error { return build("../..", filepath.Join(buildDir, earlier), earlier, "022") }),
	later:   sync.OnceValue(func() error { return build("../..", filepath.Join(buildDir, later), later, "022", runtime.GOARCH) }),
}

// packages returns the packages of one kind for all architectures.
func packages(t *testing.T, version, kind string) []string {
	t.Helper()
	if os.Getenv("NFPM") == "" {
		t.Fatal("NFPM names no program: run make package-test")
	}
	if err := built[version](); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(buildDir, version, "*."+kind))
	if err != nil || len(files) == 0 {
		t.Fatalf("packages: %q %v", files, err)
	}
	return files
}

// packageFile returns the package for an architecture (GOARCH).
func packageFile(t *testing.T, version, kind, arch string) string {
	t.Helper()
	names := map[string][]string{"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}}[arch]
	for _, f := range packages(t, version, kind) {
		for _, name := range names {
			if strings.Contains(filepath.Base(f), name) {
				return f
			}
		}
	}
	t.Fatalf("no %s for %s", kind, arch)
	return ""
}

func deb(t *testing.T, version string) string {
	t.Helper()
	return packageFile(t, version, "deb", runtime.GOARCH)
}

func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	first := append(packages(t, earlier, "deb"), packages(t, earlier, "rpm")...)
	// The second build has another directory, other file times, and another umask.
	elsewhere := t.TempDir()
	mustExec(t, "sh", "-c", `cd ../.. && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$1"`, "sh", elsewhere)
	out := filepath.Join(elsewhere, "out")
	if err := build(elsewhere, out, earlier, "077"); err != nil {
		t.Fatal(err)
	}
	for _, f := range first {
		a, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, filepath.Base(f)))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB, SHA-256 %x", filepath.Base(f), float64(len(a))/1e6, sha256.Sum256(a))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", filepath.Base(f))
		}
	}
}

func TestPackagesPassTheLinters(t *testing.T) {
	t.Parallel()
	t.Run("lintian", func(t *testing.T) {
		requirePrograms(t, "lintian")
		args := append([]string{"--allow-root", "--fail-on", "error,warning"}, packages(t, earlier, "deb")...)
		if output := mustExec(t, "lintian", args...); output != "" {
			t.Log(output)
		}
	})
	t.Run("rpmlint", func(t *testing.T) {
		requirePrograms(t, "rpmlint", "cpio")
		// rpmlint unpacks a package to absolute paths, which would be on this host.
		dir := t.TempDir()
		cpio, err := exec.LookPath("cpio")
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec %s --no-absolute-filenames \"$@\"\n", cpio)
		if err := testrun.WriteProgram(filepath.Join(dir, "cpio"), []byte(script)); err != nil {
			t.Fatal(err)
		}
		config, err := filepath.Abs("../rpmlint.toml")
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("rpmlint", append([]string{"--config", config}, packages(t, earlier, "rpm")...)...)
		c.Dir = dir
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		output, err := c.CombinedOutput()
		if err != nil || bytes.Contains(output, []byte(": E: ")) {
			t.Errorf("%v: %s", err, output)
		}
		t.Logf("%s", output)
	})
}

func TestUnitIsValidAndConfinesTheDaemon(t *testing.T) {
	t.Parallel()
	requirePrograms(t, "systemd-analyze")
	unit, err := os.ReadFile("../systemd/collectord.service")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "collectord")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(program), "collectord.service")
	if err := os.WriteFile(path, bytes.ReplaceAll(unit, []byte("/usr/bin/collectord"), []byte(program)), 0o644); err != nil {
		t.Fatal(err)
	}
	// An unknown key is only a warning with exit status 0.
	if output := mustExec(t, "systemd-analyze", "verify", "--man=no", path); output != "" {
		t.Errorf("systemd-analyze verify: %s", output)
	}
	output, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v: %s", err, output)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	t.Log(lines[len(lines)-1])
}

// The packages contain the pages that log lines name, such as docs/storages.md, and the files
// of docs/monitoring.md.
func TestPackagesHaveEachPageOfTheDocumentation(t *testing.T) {
	t.Parallel()
	requirePrograms(t, "dpkg-deb", "rpm")
	files := map[string]string{
		"deb": mustExec(t, "dpkg-deb", "--contents", deb(t, earlier)),
		"rpm": mustExec(t, "rpm", "--query", "--list", "--package", packageFile(t, earlier, "rpm", runtime.GOARCH)),
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for kind, list := range files {
		for _, page := range append(pages, "../../README.md", "../../packaging/metrics.md", "../../wal/FORMAT.md") {
			if installed := "/usr/share/doc/collectord/" + strings.TrimPrefix(page, "../../"); !strings.Contains(list, installed+"\n") {
				t.Errorf("the %s lacks %s", kind, installed)
			}
		}
		for _, name := range []string{"collectord.rules.yml", "dashboard.json"} {
			if !strings.Contains(list, "/usr/share/doc/collectord/examples/"+name+"\n") {
				t.Errorf("the %s lacks %s", kind, name)
			}
		}
		if strings.Contains(list, ".go\n") {
			t.Errorf("the %s contains Go source", kind)
		}
	}
}
