package bucket

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAnUnusableFolderDoesNotPreventTheStart has another kind of file at the folder's path.
func TestAnUnusableFolderDoesNotPreventTheStart(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"a file":           func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"a FIFO":           func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a dangling link":  func(path string) error { return os.Symlink("/nonexistent/x", path) },
		"a link to itself": func(path string) error { return os.Symlink(path, path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "archive")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			var logs bytes.Buffer
			s, err := Open(Destination{URL: "file://" + path, S3: S3Options{Logger: slog.New(slog.NewTextHandler(&logs, nil))}})
			if err != nil || !strings.Contains(logs.String(), "the folder can't be used") {
				t.Fatalf("open: %v; logged: %s", err, logs.String())
			}
			o := testObject("dt=2026-11-23/hour=08/a.ndjson.zst", "x")
			var trouble *Error
			if err := s.Put(context.Background(), o); !errors.As(err, &trouble) || !trouble.Permanent || trouble.ThisObjectOnly || !strings.Contains(trouble.Hint, "must be a directory") {
				t.Errorf("put: %v", err)
			}
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(context.Background(), o); err != nil {
				t.Errorf("put after the file was moved away: %v", err)
			}
		})
	}
}
