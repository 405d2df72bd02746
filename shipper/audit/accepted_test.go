package audit

import (
	"strings"
	"testing"

	"collectord/shipper/bucket"
)

func parseAccepted(t *testing.T, text string) *Accepted {
	t.Helper()
	a, err := ReadAccepted(strings.NewReader(text), "accepted")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAcceptedIncidentsAreSeparated(t *testing.T) {
	t.Parallel()
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putObject("n", 7, 1, 101, 110, noon)
	b.putObject("n", 7, 1, 101, 110, noon.Add(-4e12)) // a copy
	b.putObject("n", 7, 1, 121, 130, noon)
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 130, ConfirmedBelow: 131, At: noon})
	b.checkFindings(Options{Now: noon}, true, "missing 11-100", "missing 111-120", "doubled 101-110")

	known := parseAccepted(t, `
# log             records  who    why
0000000000000007  21-40    alice  the disk of n was	replaced, ticket 4711
0000000000000007  1-30     bob    the same

0000000000000007  111-120  alice  deleted by hand
0000000000000007  131-140  alice  matches nothing
0000000000000009  1-10     alice  another log
`)
	r := b.checkFindings(Options{Now: noon, Accepted: known}, true, "missing 41-100", "doubled 101-110", "missing 11-30", "missing 31-40", "missing 111-120")
	for i, want := range []string{"bob", "alice", "alice"} {
		if f := r.Findings[2+i]; f.Accepted == nil || f.Accepted.Who != want || f.Accepted.Why == "" {
			t.Errorf("%+v", f)
		}
	}
	if r.Tallies[Missing] != (Tally{1, 60}) || r.Accepted[Missing] != (Tally{3, 40}) {
		t.Errorf("%+v, accepted %+v", r.Tallies, r.Accepted)
	}
	if unused := known.Unused(); len(unused) != 2 || unused[0].Line != 7 || unused[1].Line != 8 {
		t.Errorf("unused %+v", unused)
	}
	known = parseAccepted(t, "0000000000000007 11-120 alice all of it")
	if r := b.checkFindings(Options{Now: noon, Accepted: known}, false, "missing 11-100", "missing 111-120", "doubled 101-110"); r.Wrong() || r.Accepted[Doubled] != (Tally{1, 10}) {
		t.Errorf("%+v", r)
	}
}

func TestBadLinesOfAcceptedIncidentsAreNamed(t *testing.T) {
	for line, want := range map[string]string{
		"0000000000000007 1-2 alice":                       "who accepted this, and why",
		"0000000000000007":                                 `"" is not a range`,
		"7 1-2 alice why":                                  `"7" is not a log id`,
		"000000000000000G 1-2 alice why":                   "is not a log id",
		"0000000000000007 2-1 alice why":                   `"2-1" is not a range`,
		"0000000000000007 0-1 alice why":                   "is not a range",
		"0000000000000007 5 alice why":                     "is not a range",
		"0000000000000007 1-9999999999999999999 alice why": "is not a range",
		"0000000000000007 1-2 alice \x1b[2J":               "can't be printed",
		"0000000000000007 1-2 alice \xff":                  "can't be printed",
		strings.Repeat("x", 1<<20):                         "too long",
	} {
		_, err := ReadAccepted(strings.NewReader("# fine\n\n"+line+"\n"), "incidents.txt")
		if err == nil || !strings.HasPrefix(err.Error(), "incidents.txt:3: ") || !strings.Contains(err.Error(), want) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%.80q: %v", line, err)
		}
	}
	_, err := ReadAccepted(strings.NewReader("a\nb\n"), "f")
	if err == nil || !strings.Contains(err.Error(), "f:1: ") || !strings.Contains(err.Error(), "f:2: ") {
		t.Errorf("two invalid lines: %v", err)
	}
}
