package bucket

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLineScannerCountsLinesInChunksOfAnySize(t *testing.T) {
	id := func(n int) string { return fmt.Sprintf(`{"id":"01a20a8b-0000-7000-8000-%012x","received_at":`, n) }
	text := id(1) + "\n" + id(2) + strings.Repeat("x", 1000) + "\n" + strings.Replace(id(0), "-7000-", "-8000-", 1) + "\n" + id(3) + "\n"
	for size := 1; size <= len(text); size++ {
		var l lineScanner
		for chunk := range slices.Chunk([]byte(text), size) {
			l.scan(chunk)
		}
		if l.records != 4 || l.problem != "" || l.inLine || string(l.first[:]) != id(1)[idStart:idEnd] || string(l.last[:]) != id(3)[idStart:idEnd] {
			t.Fatalf("in chunks of %d: %+v", size, l)
		}
	}
	for text, problem := range map[string]string{
		id(2) + "\n" + id(1) + "\n": "line 2 is not above",
		id(2) + "\n" + id(2) + "\n": "line 2 is not above",
		id(2) + "\n{}\n":            "line 2 is not a record",
		"\n":                        "line 1 is not a record",
	} {
		var l lineScanner
		if l.scan([]byte(text)); !strings.Contains(l.problem, problem) {
			t.Errorf("%q: %q", text, l.problem)
		}
	}
}
