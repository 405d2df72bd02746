package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	//go:embed survivors.txt
	survivors string
	//go:embed survivors-http.txt
	survivorsHTTP string
)

// survivor is a mutant that the standard run does not detect.
type survivor struct {
	test   string // the test that detects it, or empty
	reason string // why it is harmless, or why it needs that test
}

var testOf = regexp.MustCompile(`^(Test\w+): `)

// readSurvivors parses lines of mutant names. Each group of names is followed by an
// indented line with their reason. A reason that starts with the name of a test means that
// this test fails with the mutant.
func readSurvivors(text string, mutants []mutant) (known map[string]survivor, err error) {
	known = map[string]survivor{}
	var above []string
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			s := survivor{reason: strings.TrimSpace(line)}
			if m := testOf.FindStringSubmatch(s.reason); m != nil {
				s.test = m[1]
			}
			for _, m := range above {
				known[m] = s
			}
			above = nil
		case !slices.ContainsFunc(mutants, func(m mutant) bool { return m.String() == line }):
			return nil, fmt.Errorf("survivors: there is no mutant %q: see -list", line)
		default:
			above = append(above, line)
		}
	}
	if len(above) > 0 {
		return nil, fmt.Errorf("survivors: no reason for %s", above[0])
	}
	return known, nil
}
