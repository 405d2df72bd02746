//go:build torture

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// shippedUsages has the usages that were sent and shipped, and the objects for the readers.
type shippedUsages struct {
	archive  string // the folder with the objects, "" if they are in a bucket
	endpoint string // of the bucket
	objects  []string
	usages   map[string]string // by id, as they were sent
	odd      map[string]int    // the index in oddUsages, by id
	counted  map[hourOf]int
	lines    string // the lines of all objects, in the order of the objects
}

// hourOf is the group in which a usage is counted.
type hourOf struct{ dt, hour, medication string }

// answer has the results of a reader.
type answer struct {
	row     string // name of the row in the matrix
	version string
	counted map[hourOf]int
	usages  map[string]*string // by id; nil if the reader returned null
}

// sendOdd posts medications, and odd usages one by one between them.
func sendOdd(t *testing.T, d *daemon) (sent map[string]int, odd map[string]int) {
	t.Helper()
	sent, odd = sendMedications(t, d, 6), map[string]int{}
	for i, o := range oddUsages {
		for _, text := range o.sent {
			resp, err := http.Post(d.url(), "application/json", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			var stored struct{ ID string }
			err = json.NewDecoder(resp.Body).Decode(&stored)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusCreated {
				t.Fatalf("%s: %s: %v", o.name, resp.Status, err)
			}
			odd[stored.ID] = i
			sent[""]++
		}
	}
	for medication, n := range sendMedications(t, d, 6) {
		sent[medication] += n
	}
	return sent, odd
}

// shipOdd sends odd usages to a daemon, and reads the shipped records with cat.
func shipOdd(t *testing.T, config string, port, admin int) *shippedUsages {
	t.Helper()
	d := start(t, config, port, admin)
	sent, odd := sendOdd(t, d)
	s := &shippedUsages{usages: map[string]string{}, odd: odd, counted: map[hourOf]int{}}
	s.lines = mustRun(t, "cat", "--config", config)
	all := map[string]int{}
	for line := range strings.Lines(s.lines) {
		var r struct {
			ID         string
			ReceivedAt time.Time `json:"received_at"`
			Usage      json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		medication := medicationOf(string(r.Usage))
		s.usages[r.ID] = string(r.Usage)
		s.counted[hourOf{r.ReceivedAt.Format("2006-01-02"), r.ReceivedAt.Format("15"), medication}]++
		all[medication]++
	}
	if fmt.Sprint(all) != fmt.Sprint(sent) {
		t.Fatalf("sent %v, but shipped %v", sent, all)
	}
	for id, i := range odd {
		if !slices.Contains(oddUsages[i].sent, s.usages[id]) {
			t.Fatalf("%s is stored as %.200s", oddUsages[i].name, s.usages[id])
		}
	}
	d.stop()
	return s
}

func medicationOf(usage string) string {
	var u struct{ Medication string }
	_ = json.Unmarshal([]byte(usage), &u)
	return u.Medication
}

// decoded returns the answer of a reader that only decodes. Such a reader must return every
// line.
func (s *shippedUsages) decoded(t *testing.T, row, version, lines string) answer {
	t.Helper()
	if lines != s.lines {
		t.Errorf("%s returns other lines: %d bytes, want %d", row, len(lines), len(s.lines))
	}
	a := answer{row: row, version: version, counted: map[hourOf]int{}, usages: map[string]*string{}}
	for _, m := range regexp.MustCompile(`(?m)^\{"id":"([^"]*)","received_at":"([^"T]*)T(..)[^"]*".*?"usage":(.*)\}$`).FindAllStringSubmatch(lines, -1) {
		a.usages[m[1]] = &m[4]
		a.counted[hourOf{m[2], m[3], medicationOf(m[4])}]++
	}
	return a
}

// judgement is a row of the matrix.
type judgement struct {
	row, version string
	records, of  int
	counted      bool
	worst        []fidelity // of plain usages, then of each of oddUsages
	became       []string   // the text that was returned for the worst usage
}

// judged compares an answer with the sent usages.
func (s *shippedUsages) judged(a answer) judgement {
	j := judgement{
		row: a.row, version: a.version, records: len(a.usages), of: len(s.usages), counted: maps.Equal(a.counted, s.counted),
		worst: make([]fidelity, 1+len(oddUsages)), became: make([]string, 1+len(oddUsages)),
	}
	for _, id := range slices.Sorted(maps.Keys(s.usages)) {
		i := 0
		if odd, ok := s.odd[id]; ok {
			i = 1 + odd
		}
		got := a.usages[id]
		if f := judge(s.usages[id], got); f > j.worst[i] {
			j.worst[i] = f
			if got != nil {
				j.became[i] = *got
			}
		}
	}
	return j
}

// oddName names a column of the matrix.
func oddName(i int) string {
	if i == 0 {
		return "plain usages"
	}
	return oddUsages[i-1].name
}

// cells returns the row for docs/readers.md.
func (j judgement) cells() string {
	var lists [lost + 1][]string
	for i, f := range j.worst {
		text := oddName(i)
		if f == changed {
			text += ": " + codeCell(j.became[i])
		}
		lists[f] = append(lists[f], text)
	}
	exactly := fmt.Sprintf("%d of %d", len(lists[exact]), len(j.worst))
	if len(lists[exact]) == len(j.worst) {
		exactly = "all"
	}
	if len(lists[lost]) == len(j.worst) {
		lists[lost] = []string{"all"}
	}
	counted := "as sent"
	if !j.counted {
		counted = "**wrong**"
	}
	cells := []string{j.version, fmt.Sprintf("%d of %d", j.records, j.of), counted, exactly}
	for _, list := range lists[same:] {
		cells = append(cells, strings.Join(list, "; "))
	}
	return strings.Join(cells, " | ")
}

// grid returns the row that make readers prints.
func (j judgement) grid() string {
	var marks strings.Builder
	for _, f := range j.worst {
		marks.WriteString("  " + "=~!-"[f:f+1])
	}
	return fmt.Sprintf("%-36s%-12s%5d of %d %-9s%s", j.row, j.version, j.records, j.of, map[bool]string{true: "as sent", false: "WRONG"}[j.counted], marks.String())
}
