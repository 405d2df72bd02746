package audit

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"collectord/shipper/bucket"
)

// Acceptance is one accepted incident: the problems of these records are known.
type Acceptance struct {
	LogID    string `json:"log_id"`
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	Who      string `json:"who"`
	Why      string `json:"why"`
	Line     int    `json:"line"` // line number in the file
}

// Accepted is the set of accepted incidents. A nil *Accepted accepts nothing.
type Accepted struct {
	all  []Acceptance // ordered by log id and first seq
	used map[int]bool // lines that matched a finding
}

// maxMistakes limits how many invalid lines are reported.
const maxMistakes = 20

// ReadAccepted reads a file with one incident per line: the log id, FIRST-LAST, who
// accepted the incident and, as the rest of the line, why. Empty lines and lines that
// begin with # are skipped. The error lists the invalid lines, up to maxMistakes, each by
// name and line number.
func ReadAccepted(in io.Reader, name string) (*Accepted, error) {
	a := &Accepted{used: map[int]bool{}}
	var mistakes []error
	lines := bufio.NewScanner(in)
	n := 0
	for lines.Scan() && len(mistakes) < maxMistakes {
		n++
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		one, err := parseAcceptance(text)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s:%d: %w", name, n, err))
		}
		one.Line = n
		a.all = append(a.all, one)
	}
	if err := lines.Err(); err != nil {
		mistakes = append(mistakes, fmt.Errorf("%s:%d: %w", name, n+1, err))
	}
	slices.SortStableFunc(a.all, func(a, b Acceptance) int {
		return cmp.Or(cmp.Compare(a.LogID, b.LogID), cmp.Compare(a.FirstSeq, b.FirstSeq))
	})
	return a, errors.Join(mistakes...)
}

func parseAcceptance(text string) (a Acceptance, err error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }) {
		return a, errors.New("it contains characters that can't be printed")
	}
	words := append(strings.Fields(text), "", "", "")
	log, seqs := words[0], words[1]
	a.Who, a.Why = words[2], strings.TrimSpace(strings.Join(words[3:], " "))
	id, err := strconv.ParseUint(log, 16, 64)
	if a.LogID = bucket.HexID(id); err != nil || a.LogID != log {
		return a, fmt.Errorf("%q is not a log id: 16 hexadecimal digits, as audit prints it", log)
	}
	first, last, isRange := strings.Cut(seqs, "-")
	var lastErr error
	a.FirstSeq, err = strconv.ParseUint(first, 10, 63)
	a.LastSeq, lastErr = strconv.ParseUint(last, 10, 63)
	if !isRange || err != nil || lastErr != nil || a.FirstSeq < 1 || a.LastSeq < a.FirstSeq {
		return a, fmt.Errorf("%q is not a range of seqs: FIRST-LAST", seqs)
	}
	if a.Why == "" {
		return a, errors.New("it does not say who accepted this, and why: LOG FIRST-LAST WHO WHY")
	}
	return a, nil
}

// Unused returns the acceptances that matched no finding, ordered by line.
func (a *Accepted) Unused() (unused []Acceptance) {
	if a == nil {
		return nil
	}
	for _, one := range a.all {
		if !a.used[one.Line] {
			unused = append(unused, one)
		}
	}
	slices.SortFunc(unused, func(a, b Acceptance) int { return cmp.Compare(a.Line, b.Line) })
	return unused
}

// split divides a finding into accepted and unaccepted parts.
func (a *Accepted) split(f Finding) (parts []Finding) {
	if a == nil || !f.Kind.Wrong() || f.FirstSeq == 0 {
		return []Finding{f}
	}
	part := func(first, last uint64, by *Acceptance) {
		one := f
		one.FirstSeq, one.LastSeq, one.Accepted = first, last, by
		parts = append(parts, one)
	}
	next := f.FirstSeq
	at, _ := slices.BinarySearchFunc(a.all, f.LogID, func(one Acceptance, id string) int { return cmp.Compare(one.LogID, id) })
	for i := at; i < len(a.all) && a.all[i].LogID == f.LogID && a.all[i].FirstSeq <= f.LastSeq; i++ {
		one := &a.all[i]
		if one.LastSeq < f.FirstSeq {
			continue
		}
		a.used[one.Line] = true
		if one.LastSeq < next {
			continue // an earlier line accepted all of it
		}
		if one.FirstSeq > next {
			part(next, one.FirstSeq-1, nil)
			next = one.FirstSeq
		}
		part(next, min(one.LastSeq, f.LastSeq), one)
		if next = one.LastSeq + 1; next > f.LastSeq {
			return parts
		}
	}
	part(next, f.LastSeq, nil)
	return parts
}
