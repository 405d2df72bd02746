package wal

import "testing"

// A quiet host that can't ship for a year has a hundred thousand segments. To compare each
// with each other would take longer than tests may run.
func TestManySegmentsDoNotSlowDownTheSearchForStrayFiles(t *testing.T) {
	var found foundDirs
	for seq := range uint64(1 << 19) {
		found.segments = append(found.segments, &foundDir{first: seq + 1, last: seq + 1, sealed: true, validName: true})
	}
	if err := new(Log).putStrayFilesAside(&found); err != nil || len(found.segments) != 1<<19 {
		t.Errorf("%d segments are left: %v", len(found.segments), err)
	}
}
