package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestProgressIsDrawnOnlyOnTerminals(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	silent := newProgress(file)
	silent.drawnAt = time.Time{}
	silent.set(1, 2)
	silent.clear()
	if info, err := file.Stat(); err != nil || info.Size() > 0 {
		t.Errorf("a file got %d bytes, %v", info.Size(), err)
	}

	var out strings.Builder
	bar := &progress{out: &out, what: "objects listed"}
	bar.clear()
	for _, step := range []struct {
		done, total int64
		want        string
	}{{7, 0, "7 objects listed"}, {1, 4, "[##########..............................]  25 %"}, {9, 4, "100 %"}} {
		out.Reset()
		bar.drawnAt = time.Time{}
		bar.set(step.done, step.total)
		if !strings.Contains(out.String(), step.want) {
			t.Errorf("%d of %d is drawn as %q", step.done, step.total, out.String())
		}
		out.Reset()
		if bar.set(step.done, step.total); out.Len() > 0 {
			t.Errorf("the bar is drawn again at once: %q", out.String())
		}
	}
	bar.clear()
	bar.clear()
	if out.String() != "\r\x1b[K" {
		t.Errorf("the bar is cleared with %q", out.String())
	}
}
