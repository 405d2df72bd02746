package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"collectord/shipper/audit"
)

// wrongs sums up what is wrong.
func (p *printedFleet) wrongs() string {
	var parts []string
	for _, k := range audit.States() {
		if n := p.Count[k]; n > 0 && k.Wrong() {
			parts = append(parts, hostsInWords(k, n))
		}
	}
	return joined(parts)
}

func hostsInWords(k audit.Kind, n int) string {
	switch k {
	case audit.Failed:
		return plural(n, "destination") + " that can't be read"
	case audit.Nothing:
		return "nothing found in " + plural(n, "destination")
	case audit.Absent, audit.Silent, audit.Cloned:
		return plural(n, string(k)+" host")
	case audit.Clock:
		return plural(n, "host") + " with a wrong clock"
	case audit.Vanished:
		return plural(n, "host") + " with vanished objects"
	case audit.Trouble:
		return plural(n, "host") + " in trouble"
	case audit.Damaged, audit.Unreadable:
		return plural(n, string(k)+" file")
	case audit.Gone:
		return plural(n, "log") + " gone"
	}
	return plural(n, "log") + " with " + string(k) + " records"
}

// text says first what is wrong.
func (p *printedFleet) text(out io.Writer) error {
	verdict := "RIGHT: no host is silent or in trouble, and no record is overdue"
	if p.audited {
		verdict += ", missing, doubled, forked or conflicting"
	}
	switch {
	case p.Count[audit.Failed] > 0:
		verdict = "ERROR, NO VERDICT: " + p.wrongs()
	case p.Wrong():
		verdict = "NOT RIGHT: " + p.wrongs()
	}
	writef(out, "%s\n\n", verdict)
	if err := p.table(out); err != nil {
		return err
	}
	var leftOut []string
	clocks := ""
	for _, k := range []audit.Kind{audit.Retired, audit.Away} {
		n := 0
		for _, h := range p.Hosts {
			if h.State == k && p.leavesOut(h) {
				n++
				if k == audit.Away && h.Reason != "" {
					clocks = "; away is silent for more than 30 days, or with a clock that is behind"
				}
			}
		}
		if n > 0 {
			leftOut = append(leftOut, fmt.Sprintf("%d %s", n, k))
		}
	}
	if len(leftOut) > 0 {
		writef(out, "\nnot listed: %s (--all lists them%s)\n", joined(leftOut), clocks)
	}
	if n := p.Count[audit.Unheard]; n > 0 {
		writef(out, "\nNOT KNOWN  when %s last wrote, and what waits there: there are objects, and no heartbeat\n", plural(n, "unheard host"))
		writef(out, "  it writes none (shipper.heartbeat: 0), or the storage refuses it\n")
	}
	if !p.audited {
		writef(out, "\nNOT KNOWN  whether records are missing, and hosts that write no heartbeat: objects were not listed (--holes)\n")
	}
	writeUnused(out, p.unused)
	writef(out, "\n%s: %s, %s", p.destination, plural(p.Nodes(), "node"), plural(p.Heartbeats, "heartbeat"))
	if p.audited {
		writef(out, ", %s", plural(p.Objects, "object"))
	}
	writef(out, "\n")
	return nil
}

func (p *printedFleet) table(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	writef(table, "STATE\tNODE\tLOG\tVERSION\tHEARD\tPENDING\tOLDEST\tFULL IN\tFREE\t")
	if p.audited {
		writef(table, "HOLES\t")
	}
	if p.destinations > 1 {
		writef(table, "DESTINATION\t")
	}
	writef(table, "TROUBLE\n")
	for _, h := range p.Hosts {
		if p.leavesOut(h) {
			continue
		}
		state := string(h.State)
		if len(h.Wrong) > 1 {
			state = strings.Join(kindNames(h.Wrong), "+")
		}
		log := h.LogID[:min(8, len(h.LogID))]
		node := "-"
		if h.Node != "" || h.LogID != "" {
			node = nodeName(shortened(h.Node, 63)).String()
		}
		writef(table, "%s\t%s\t%s\t", state, node, orDash(log))
		heard, oldest := age(h.HeardSeconds), age(h.WaitingSeconds)
		if b := h.Heartbeat; b != nil {
			writef(table, "%s\t%s\t%d\t%s\t%s\t%s\t", orDash(shortened(b.Version, 20)), heard, b.Pending, oldest, age(b.SecondsUntilFull), size(b.FreeBytes))
		} else {
			writef(table, "-\t%s\t-\t%s\t-\t-\t", heard, oldest)
		}
		if p.audited {
			writef(table, "%s\t", orDash(holes(h.Found)))
		}
		if p.destinations > 1 {
			writef(table, "%s\t", orDash(h.Destination))
		}
		writef(table, "%s\n", orDash(troubleOf(h)))
	}
	return table.Flush()
}

func kindNames(kinds []audit.Kind) (names []string) {
	for _, k := range kinds {
		names = append(names, string(k))
	}
	return names
}

// troubleOf is what fails on a host, and why it is listed as it is.
func troubleOf(h *audit.Host) string {
	var parts []string
	if h.Heartbeat != nil && h.Heartbeat.Trouble != "" {
		parts = append(parts, h.Heartbeat.Trouble)
	}
	if b := h.Heartbeat; b != nil && b.Vanished > 0 {
		parts = append(parts, "vanished: "+strconv.FormatUint(b.Vanished, 10))
	}
	if off := h.ClockSeconds; off != nil {
		side, abs := "ahead of", max(*off, -*off)
		if *off < 0 {
			side = "behind"
		}
		parts = append(parts, "its clock is "+age(&abs)+" "+side+" the storage's, or the heartbeat was copied")
	}
	if h.Reason != "" {
		parts = append(parts, h.Reason)
	}
	if h.Key != "" {
		parts = append(parts, h.Key)
	}
	return strings.Join(parts, "; ")
}

// holes sums up what an audit found of a log, and what it knows to be lost.
func holes(found map[audit.Kind]audit.Tally) string {
	var parts []string
	for _, k := range audit.Kinds() {
		if t := found[k]; t.Findings > 0 && (k.Wrong() || k == audit.Lost) {
			parts = append(parts, fmt.Sprintf("%s %d", k, t.Records))
		}
	}
	return joined(parts)
}

func joined(parts []string) string { return strings.Join(parts, ", ") }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// shortened is the text, of at most so many characters: what strangers wrote must not
// push the rest of a table away.
func shortened(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// age is a number of seconds, for people.
func age(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	n, sign := *seconds, ""
	if n < 0 {
		n, sign = -max(n, -1<<62), "-"
	}
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	switch {
	case n < minute:
		return fmt.Sprintf("%s%ds", sign, n)
	case n < hour:
		return fmt.Sprintf("%s%dm", sign, n/minute)
	case n < 2*day:
		return fmt.Sprintf("%s%dh%02dm", sign, n/hour, n%hour/minute)
	}
	return fmt.Sprintf("%s%dd%02dh", sign, n/day, n%day/hour)
}

// size is a number of bytes, for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	value, at := float64(n), 0
	for value >= 1024 && at < len(units)-1 {
		value, at = value/1024, at+1
	}
	if at == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return fmt.Sprintf("%.1f %s", value, units[at])
}
