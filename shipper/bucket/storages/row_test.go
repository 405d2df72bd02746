package storages

import (
	"os"
	"strings"
	"testing"
)

// TestDocumentedTablesMatch compares docs/storages.md with Tables. After a power cut, no record
// may be missing in the end.
func TestDocumentedTablesMatch(t *testing.T) {
	text, err := os.ReadFile("../../../docs/storages.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	for _, k := range All() {
		r, err := ReadRow(string(text), k.Name)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
		for _, table := range tables() {
			for i, cell := range table.cells(&r) {
				if *cell == "" {
					t.Errorf("%s: column %q is empty", k.Name, table.titles[i])
				}
			}
		}
		for _, cut := range []Cut{r.After2s, r.After35s, r.After2sWithHost} {
			if first, _, _ := strings.Cut(cut.Missing, " "); strings.TrimSuffix(first, ",") != "0" {
				t.Errorf("%s: records are missing in the end: %s", k.Name, cut.Missing)
			}
		}
	}
	for table := range strings.SplitSeq(Tables(rows), "\n\n") {
		if !strings.Contains(string(text), "\n\n"+strings.TrimSuffix(table, "\n")+"\n\n") {
			t.Errorf("docs/storages.md does not contain this table:\n%s", table)
		}
	}
}
