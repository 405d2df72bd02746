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

// wrongs summarizes the trouble and findings of the fleet.
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
	case audit.SilentDevice:
		return plural(n, "host") + " with silent devices"
	case audit.Damaged, audit.Unreadable:
		return plural(n, string(k)+" file")
	case audit.Gone:
		return plural(n, "log") + " gone"
	}
	return plural(n, "log") + " with " + string(k) + " records"
}

// verdict returns the result in one line.
func (p *printedFleet) verdict() string {
	switch {
	case p.Count[audit.Failed] > 0:
		return "ERROR, NO VERDICT: " + p.wrongs()
	case p.Wrong():
		return "NOT RIGHT: " + p.wrongs()
	case p.audited:
		return "RIGHT: no host is silent or in trouble, and no record is overdue, missing, doubled, forked or conflicting"
	}
	return "RIGHT: no host is silent or in trouble, and no record is overdue"
}

// text writes the fleet as text, with the verdict first.
func (p *printedFleet) text(out io.Writer) error {
	writef(out, "%s\n\n", p.verdict())
	if err := p.table(out); err != nil {
		return err
	}
	for _, line := range p.notes() {
		writef(out, "\n%s\n", line)
	}
	writeUnused(out, p.unused)
	writef(out, "\n%s\n", p.sum())
	return nil
}

// sum describes what was examined.
func (p *printedFleet) sum() string {
	sum := fmt.Sprintf("%s: %s, %s", p.destination, plural(p.Nodes(), "node"), plural(p.Heartbeats, "heartbeat"))
	if p.audited {
		sum += ", " + plural(p.Objects, "object")
	}
	return sum
}

// notes returns what the table omits, and what could not be determined.
func (p *printedFleet) notes() (notes []string) {
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
		notes = append(notes, fmt.Sprintf("not listed: %s (--all lists them%s)", joined(leftOut), clocks))
	}
	if n := p.Count[audit.Unheard]; n > 0 {
		notes = append(notes, fmt.Sprintf("NOT KNOWN  when %s last wrote, and what waits there: there are objects, and no heartbeat (it writes none, shipper.heartbeat: 0, or the storage refuses it)", plural(n, "unheard host")))
	}
	if !p.audited {
		notes = append(notes, "NOT KNOWN  whether records are missing, and hosts that write no heartbeat: objects were not listed (--holes)")
	}
	if p.UnjudgedHosts > 0 {
		notes = append(notes, fmt.Sprintf("NOT KNOWN  which devices of %s are silent: there are more than fit in memory (--node)", plural(p.UnjudgedHosts, "host")))
	}
	return notes
}

func (p *printedFleet) table(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	writeRow(table, p.columns())
	for _, h := range p.Hosts {
		if !p.leavesOut(h) {
			writeRow(table, append(p.cells(h), orDash(strings.Join(troubleOf(h, namedDevices), "; "))))
		}
	}
	return table.Flush()
}

// writeRow writes one row of a tabwriter. It quotes each cell, so that a cell can't
// contain a separator.
func writeRow(table io.Writer, cells []string) {
	for i, cell := range cells {
		if i > 0 {
			writef(table, "\t")
		}
		writef(table, "%s", cell)
	}
	writef(table, "\n")
}

// holes summarizes the findings of an audit that count as wrong, and the known losses.
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

// shortened truncates a text to most characters, so that a long text from another host
// can't hide the rest of a row.
func shortened(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// age formats a number of seconds, or "-" for nil.
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

// size formats a number of bytes with a binary unit.
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
