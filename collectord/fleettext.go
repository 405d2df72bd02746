package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"collectord/shipper/audit"
)

// summarizeWrong summarizes the trouble and findings of the fleet.
func (p *fleetReport) summarizeWrong() string {
	var parts []string
	for _, k := range audit.States() {
		if n := p.Count[k]; n > 0 && k.Wrong() {
			parts = append(parts, describeHosts(k, n))
		}
	}
	return commaList(parts)
}

func describeHosts(k audit.Kind, n int) string {
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
func (p *fleetReport) verdict() string {
	switch {
	case p.Count[audit.Failed] > 0:
		return "ERROR, NO VERDICT: " + p.summarizeWrong()
	case p.Wrong():
		return "NOT RIGHT: " + p.summarizeWrong()
	case p.audited:
		return "RIGHT: no host is silent or in trouble, and no record is overdue, missing, doubled, forked or conflicting"
	}
	return "RIGHT: no host is silent or in trouble, and no record is overdue"
}

// text writes the fleet as text, with the verdict first.
func (p *fleetReport) text(out io.Writer) error {
	writef(out, "%s\n\n", p.verdict())
	if err := p.table(out); err != nil {
		return err
	}
	for _, line := range p.notes() {
		writef(out, "\n%s\n", line)
	}
	writeUnused(out, p.unused)
	writef(out, "\n%s\n", p.examined())
	return nil
}

// examined describes what was examined.
func (p *fleetReport) examined() string {
	sum := fmt.Sprintf("%s: %s, %s", p.destination, plural(p.Nodes(), "node"), plural(p.Heartbeats, "heartbeat"))
	if p.audited {
		sum += ", " + plural(p.Objects, "object")
	}
	return sum
}

// notes returns what the table omits, and what could not be determined.
func (p *fleetReport) notes() (notes []string) {
	var hidden []string
	awayNote := ""
	for _, k := range []audit.Kind{audit.Retired, audit.Away} {
		n := 0
		for _, h := range p.Hosts {
			if h.State == k && p.isHidden(h) {
				n++
				if k == audit.Away && h.Reason != "" {
					awayNote = "; away means silent for more than 30 days, or with a clock that is behind"
				}
			}
		}
		if n > 0 {
			hidden = append(hidden, fmt.Sprintf("%d %s", n, k))
		}
	}
	if len(hidden) > 0 {
		notes = append(notes, fmt.Sprintf("not listed: %s (--all lists them%s)", commaList(hidden), awayNote))
	}
	if n := p.Count[audit.Unheard]; n > 0 {
		notes = append(notes, fmt.Sprintf("NOT KNOWN  when %s last wrote, and what waits there: there are objects but no heartbeat: the host writes none (shipper.heartbeat: 0), its daemon has just started, or the storage refuses it", plural(n, "unheard host")))
	}
	if !p.audited {
		notes = append(notes, "NOT KNOWN  whether records are missing, or which hosts write no heartbeat: objects were not listed (--holes)")
	}
	if p.UnjudgedHosts > 0 {
		notes = append(notes, fmt.Sprintf("NOT KNOWN  which devices of %s are silent: there are more devices than fit in memory (--node)", plural(p.UnjudgedHosts, "host")))
	}
	return notes
}

func (p *fleetReport) table(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	writeRow(table, p.columns())
	for _, h := range p.Hosts {
		if !p.isHidden(h) {
			writeRow(table, append(p.cells(h), orDash(strings.Join(troubleTexts(h, maxNamedDevices), "; "))))
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

// summarizeHoles summarizes the findings of an audit that count as wrong, and the known losses.
func summarizeHoles(found map[audit.Kind]audit.Tally) string {
	var parts []string
	for _, k := range audit.Kinds() {
		if t := found[k]; t.Findings > 0 && (k.Wrong() || k == audit.Lost) {
			parts = append(parts, fmt.Sprintf("%s %d", k, t.Records))
		}
	}
	return commaList(parts)
}

func commaList(parts []string) string { return strings.Join(parts, ", ") }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// truncate truncates a text to limit characters, so that a long text from another host
// can't hide the rest of a row.
func truncate(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// formatAge formats a number of seconds, or "-" for nil.
func formatAge(seconds *int64) string {
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
