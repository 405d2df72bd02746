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

// survivor is a mutant that the simulation does not find.
type survivor struct {
	test   string // that fails instead, or empty
	reason string // why it can't matter, or why it takes a test
}

var testOf = regexp.MustCompile(`^(Test\w+): `)

// readSurvivors reads lines with mutants, by name, and an indented one with the reason
// for those above it. A reason that begins with the name of a test means that this
// test fails.
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
			return nil, fmt.Errorf("survivors: nothing is taken out that is named %q: see -list", line)
		default:
			above = append(above, line)
		}
	}
	if len(above) > 0 {
		return nil, fmt.Errorf("survivors: no reason for %s", above[0])
	}
	return known, nil
}
