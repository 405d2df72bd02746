package http1

import (
	"os"
	"strings"
	"testing"
)

// The table in doc.go equals the variable transitions.
func TestTransitionsMatchTheDocumentedTable(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	stateNames := map[string]State{"Start": Start, "Fields": Fields, "Fixed": Fixed, "ChunkSize": ChunkSize, "ChunkData": ChunkData, "ChunkEnd": ChunkEnd, "Trailer": Trailer, "Done": Done}
	elementNames := map[string]element{
		"Start empty line": emptyLine, "request line": requestLine, "field line": fieldLine, "end, no body": endWithoutBody, "end, length": endWithLength, "end, chunked": endWithChunks,
		"piece": piece, "last piece": lastPiece, "size": chunkSize, "size 0": lastChunk, "CR LF": chunkEnd, "Trailer end": endOfTrailer, "answered": answered,
	}
	var want [states][elements]State
	rows := 0
	_, rest, _ := strings.Cut(string(text), "//	state      element          next state\n")
	for _, line := range strings.Split(rest, "\n") {
		columns := strings.Fields(strings.TrimPrefix(line, "//"))
		if len(columns) == 0 || columns[0] == "any" {
			break
		}
		from := stateNames[columns[0]]
		line = strings.TrimSpace(strings.TrimPrefix(line, "//	"+columns[0]))
		for name, elem := range elementNames {
			name = strings.TrimPrefix(name, columns[0]+" ")
			after, found := strings.CutPrefix(line, name+"  ")
			to := strings.Fields(after)
			if found && len(to) > 0 {
				want[from][elem] = stateNames[to[0]]
				rows++
			}
		}
	}
	for _, from := range []State{Start, Fields, ChunkSize, ChunkEnd, Trailer} { // states with elements that can be invalid
		want[from][bad] = Broken
	}
	if want != transitions || rows != 16 {
		t.Errorf("doc.go has %d rows:\n%v\nthe code:\n%v", rows, want, transitions)
	}
}
