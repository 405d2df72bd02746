package shipper

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// A spool may be a link to a directory that also contains other files.
func TestOnlyOwnFilesAreRemovedFromTheSpool(t *testing.T) {
	ownName := strings.Repeat("0", 19) + "1-" + strings.Repeat("0", 19) + "9.ndjson.zst"
	takenName := strings.Repeat("0", 19) + "1-" + strings.Repeat("0", 18) + "10.ndjson.zst" // the name of a segment below
	for name, link := range map[string]bool{"a directory": false, "a link": true} {
		t.Run(name, func(t *testing.T) {
			place, elsewhere := filepath.Join(t.TempDir(), "place"), t.TempDir()
			for _, name := range []string{"notes.txt", "deep/er/file", "deep/" + ownName, ownName + "/file", "1-2.ndjson.zst", "x" + ownName} {
				s3test.WriteFile(t, filepath.Join(place, name))
			}
			s3test.WriteFile(t, filepath.Join(elsewhere, "target"))
			s3test.WriteFile(t, filepath.Join(elsewhere, "directory", ownName))
			for name, target := range map[string]string{"target.ndjson.zst": "target", takenName: "target", "directory": "directory", reserveName: "target"} {
				if err := os.Symlink(filepath.Join(elsewhere, target), filepath.Join(place, name)); err != nil {
					t.Fatal(err)
				}
			}
			before, beside := s3test.Tree(t, place), s3test.Tree(t, elsewhere)
			s3test.WriteFile(t, filepath.Join(place, strings.Replace(ownName, "9.", "8.", 1)))
			dir := place
			if link {
				dir = filepath.Join(t.TempDir(), "spool")
				if err := os.Symlink(place, dir); err != nil {
					t.Fatal(err)
				}
			}
			l := openLog(t, t.TempDir())
			fill(t, l, 20, 10)
			store := newFolder(t)
			var logged logBuffer
			s, err := New(l, store, Options{SpoolDir: dir, Reserve: true, Logger: logged.logger()})
			if err != nil {
				t.Fatal(err)
			}
			stopped, stop := context.WithCancel(context.Background())
			stop()
			s.Run(stopped)
			if !strings.Contains(logged.text(), "notes.txt") {
				t.Errorf("the remaining files were not logged: %s", logged.text())
			}
			if after := s3test.Tree(t, place); strings.Join(after, "\n") != strings.Join(before, "\n") {
				t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			if after := s3test.Tree(t, elsewhere); strings.Join(after, "\n") != strings.Join(beside, "\n") {
				t.Errorf("behind the links there is %v", after)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); s.Run(ctx) }()
			defer func() { cancel(); <-done }()
			until(t, "both segments are shipped", func() bool { return l.Ledger().Shipped == 20 })
			if b, err := os.ReadFile(filepath.Join(elsewhere, "target")); err != nil || string(b) != "x" {
				t.Errorf("a link was followed: %q, %v", b, err)
			}
			if renamed, err := filepath.Glob(filepath.Join(place, takenName+".aside-*")); err != nil || len(renamed) != 1 {
				t.Errorf("the link with the name of a segment is now %q, %v", renamed, err)
			}
			checkStoredOnce(t, store, 20)
		})
	}
}
