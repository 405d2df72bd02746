// Command torture turns the output of make torture into docs/torture.md.
//
//	torture LOG >docs/torture.md
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: torture LOG")
		os.Exit(1)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run(path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	results, err := parse(f)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, page(results, info.ModTime()))
	return err
}

// result is the result of a test with all its subtests.
type result struct {
	outcome string // PASS, FAIL or SKIP
	took    string
	logged  []string // texts that the test and its subtests logged
}

// parse reads the output of go test -v. It returns the results by top-level test.
func parse(in io.Reader) (map[string]*result, error) {
	all, current := map[string]*result{}, ""
	of := func(name string) *result {
		name, _, _ = strings.Cut(name, "/")
		if all[name] == nil {
			all[name] = &result{}
		}
		return all[name]
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		switch {
		case len(fields) == 3 && fields[0] == "===": // RUN, NAME, CONT, PAUSE
			current = fields[2]
		case len(fields) == 4 && fields[0] == "---":
			if r := of(fields[2]); !strings.Contains(fields[2], "/") {
				r.outcome, r.took = strings.TrimSuffix(fields[1], ":"), strings.Trim(fields[3], "()")
			}
		case current != "" && strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "     "):
			place, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if file, _, isPlace := strings.Cut(place, ".go:"); ok && isPlace && strings.HasSuffix(file, "_test") {
				r := of(current)
				r.logged = append(r.logged, text)
			}
		}
	}
	return all, lines.Err()
}

// page returns the text of docs/torture.md.
func page(results map[string]*result, at time.Time) string {
	var b strings.Builder
	b.WriteString(intro)
	fmt.Fprintf(&b, "The run ended on %s.\n\n", at.UTC().Format(time.DateOnly))
	b.WriteString("| fault | what was seen | lost | doubled | test |\n|---|---|---|---|---|\n")
	for _, p := range proofs {
		r := results[p.test]
		lost, doubled := "0", "0"
		switch {
		case r == nil || r.outcome == "":
			r = &result{logged: []string{"not run"}}
			fallthrough
		case r.outcome == "SKIP":
			lost, doubled = "–", "–"
		case r.outcome != "PASS":
			lost, doubled = "**failed**", "**failed**"
		}
		if r.outcome == "PASS" {
			lost, doubled = cmp.Or(p.lost, lost), cmp.Or(p.doubled, doubled)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | `%s` in %s |\n", p.fault, joinLines(r.logged), lost, doubled, p.test, p.dir)
	}
	b.WriteString(outro)
	return b.String()
}

// What the page shows of a test is limited, since each row is one line.
const (
	maxSeen      = 4   // log lines
	maxSeenBytes = 400 // of all of them
)

func joinLines(lines []string) string {
	more := ""
	if len(lines) > maxSeen {
		more = fmt.Sprintf("; … (%d more)", len(lines)-maxSeen)
		lines = lines[:maxSeen]
	}
	text := strings.Join(lines, "; ") + more
	if len(text) > maxSeenBytes {
		text = text[:max(0, strings.LastIndex(text[:maxSeenBytes], "; "))] + "; …"
	}
	return strings.ReplaceAll(text, "|", "\\|")
}
