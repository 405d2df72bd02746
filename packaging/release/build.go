package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// build releases a version into its own directory below dir.
func build(version, dir string) error {
	r, err := check(".", version)
	if err != nil {
		return err
	}
	if dir == "" {
		return fmt.Errorf("release build %s: the directory is missing", version)
	}
	dir = filepath.Join(dir, r.version)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Setenv("SOURCE_DATE_EPOCH", r.commitSeconds); err != nil { // also read by writeSBOM
		return err
	}
	c := exec.Command("packaging/package", append([]string{dir}, architectures...)...) //nolint:gosec // fixed program
	c.Env = append(os.Environ(), "VERSION="+r.version)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("packaging/package: %w", err)
	}
	for _, arch := range architectures {
		binary := filepath.Join(dir, fmt.Sprintf("collectord-%s-linux-%s", r.version, arch))
		var b bytes.Buffer
		if err := writeSBOM(&b, binary, r.version); err != nil {
			return err
		}
		if err := os.WriteFile(binary+".cdx.json", b.Bytes(), 0o644); err != nil { //nolint:gosec // published
			return err
		}
	}
	changes := filepath.Join(dir, fmt.Sprintf("collectord-%s-changes.md", r.version))
	if err := os.WriteFile(changes, []byte(r.changes+"\n"), 0o644); err != nil { //nolint:gosec // published
		return err
	}
	return writeSums(dir)
}

// writeSums writes SHA256SUMS in the format of sha256sum --check.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a file of this release
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), sums.Bytes(), 0o644) //nolint:gosec // published
}
