package wal

import (
	"testing"
	"time"
)

// A quiet host that can't ship for a year has a hundred thousand segments.
func TestManySegmentsDoNotSlowDownTheSearchForStrayFiles(t *testing.T) {
	var found foundDirs
	for seq := range uint64(1 << 19) {
		found.segments = append(found.segments, &foundDir{first: seq + 1, last: seq + 1, sealed: true, validName: true})
	}
	began := time.Now()
	if err := new(Log).putStrayFilesAside(&found); err != nil || len(found.segments) != 1<<19 {
		t.Errorf("%d segments are left: %v", len(found.segments), err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}
