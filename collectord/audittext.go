package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"collectord/collectord/units"
	"collectord/shipper/audit"
)

// summarizeWrong summarizes the findings that count as wrong.
func summarizeWrong(r *audit.Report) string { return summarizeTallies(r.Tallies) }

func summarizeTallies(tallies map[audit.Kind]audit.Tally) string {
	var parts []string
	for _, k := range audit.Kinds() {
		if t := tallies[k]; k.Wrong() && t.Findings > 0 {
			parts = append(parts, describeTally(k, t))
		}
	}
	return strings.Join(parts, ", ")
}

func describeTally(k audit.Kind, t audit.Tally) string {
	text := plural(t.Findings, string(k)+" range")
	switch k {
	case audit.Truncated, audit.Damaged, audit.Unreadable, audit.Foreign, audit.Deleted:
		text = plural(t.Findings, string(k)+" object")
	case audit.Failed:
		text = plural(t.Findings, "destination") + " that can't be read"
	case audit.Conflicting:
		text = plural(t.Findings, "conflicting name")
	case audit.Gone:
		text = plural(t.Findings, "log") + " gone"
	case audit.Absent, audit.Silent:
		text = plural(t.Findings, string(k)+" node")
	case audit.Nothing:
		text = "nothing found"
		if t.Findings > 1 {
			text += " in " + plural(t.Findings, "destination")
		}
	case audit.NotYet:
		text = plural(t.Findings, "range") + " not yet there"
	}
	if t.Records > 0 {
		text += fmt.Sprintf(" (%s)", formatRecords(t.Records))
	}
	return text
}

// auditText writes an audit report as text, with the verdict first.
func auditText(out io.Writer, destination string, r *audit.Report, unused []audit.Acceptance, deep bool) error {
	verdict := "RIGHT: nothing is missing, overdue, doubled, forked or conflicting"
	if deep {
		verdict += ", and the content of every object matches its name and metadata"
	}
	if known := summarizeTallies(r.Accepted); known != "" {
		verdict += "; accepted: " + known
	}
	switch {
	case r.Tallies[audit.Failed].Findings > 0:
		verdict = "ERROR, NO VERDICT: " + summarizeWrong(r)
	case r.Wrong():
		verdict = "NOT RIGHT: " + summarizeWrong(r)
	}
	writef(out, "%s\n", verdict)
	for _, f := range r.Findings {
		writeFinding(out, &f)
	}
	if n := countNotListed(r); n > 0 {
		writef(out, "\n… and %s more\n", plural(n, "finding"))
	}
	if r.Unconfirmed > 0 {
		writef(out, "\nNOT KNOWN  what the hosts of %s had confirmed: there is no heartbeat, and no metadata (a folder has none)\n", plural(r.Unconfirmed, "log"))
		writef(out, "  so gaps in these logs are not reported as missing: their records may have been deleted, or may never have come\n")
	}
	if r.NoMetadata > 0 {
		writef(out, "\nNOT KNOWN  the SHA-256 of the lines of %s: there is no metadata (a folder has none)\n", plural(r.NoMetadata, "object"))
		writef(out, "  instead, the checksum of their frame, their count and their ids were checked\n")
	}
	writeUnused(out, unused)
	writef(out, "\n%s: %s, %s, %s\n", destination, plural(r.Objects, "object"), plural(r.Notes, "loss note"), plural(r.Heartbeats, "heartbeat"))
	if len(r.Logs) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	writef(table, "NODE\tLOG\tRUNS\tOBJECTS\tRECORDS\tFIRST SEQ\tLAST SEQ\tFROM\tTO\tHEARTBEAT\n")
	for _, l := range r.Logs {
		from, to := "-", "-"
		if !l.From.IsZero() {
			from = l.From.Format(hourLayout)
		}
		if !l.To.IsZero() {
			to = l.To.Format(hourLayout)
		}
		var nodes []string
		for _, n := range l.Nodes {
			nodes = append(nodes, nodeName(n).String())
		}
		heartbeat := "-"
		if l.Heartbeat != nil {
			heartbeat = formatMinute(&l.Heartbeat.At)
		}
		writef(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			strings.Join(nodes, " "), l.LogID, l.Runs, l.Objects, l.Records, l.FirstSeq, l.LastSeq, from, to, heartbeat)
	}
	return table.Flush()
}

const hourLayout = "2006-01-02T15Z"

// writeUnused lists the lines of --accept that match no finding.
func writeUnused(out io.Writer, unused []audit.Acceptance) {
	for _, a := range unused {
		writef(out, "\nACCEPTS NOTHING  line %d of the accepted incidents: seq %d to %d of log %s (%s: %s)\n", a.Line, a.FirstSeq, a.LastSeq, a.LogID, a.Who, a.Why)
		writef(out, "  no finding matches this line: correct it, or remove it\n")
	}
}

func writeFinding(out io.Writer, f *audit.Finding) {
	writef(out, "\n%s", strings.ToUpper(strings.ReplaceAll(string(f.Kind), "_", " ")))
	if f.Accepted != nil {
		writef(out, ", ACCEPTED")
	}
	if f.FirstSeq == 0 && f.Node != "" {
		writef(out, "  %s", nodeName(f.Node))
	}
	if f.FirstSeq > 0 {
		writef(out, "  seq %d to %d (%s) of %s, log %s", f.FirstSeq, f.LastSeq, formatRecords(f.Records()), nodeName(f.Node), f.LogID)
		if len(f.Runs) > 0 {
			writef(out, ", run %s", strings.Join(f.Runs, " and "))
		}
	}
	writef(out, "\n")
	if why := explainFinding(f); why != "" {
		writef(out, "  %s\n", why)
	}
	if a := f.Accepted; a != nil {
		writef(out, "  accepted by %s: %s\n", a.Who, a.Why)
	}
	if f.Destination != "" {
		writef(out, "  in %s\n", f.Destination)
	}
	for _, k := range f.Keys {
		writef(out, "  %s\n", k)
	}
}

// formatMinute formats a time in UTC to the minute. It returns "" for an unknown time.
func formatMinute(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04Z")
}

// formatRecords formats a number of records with thousands separators, as in "2,000 records".
func formatRecords(n uint64) string {
	if n == 1 {
		return "1 record"
	}
	return units.Count(n) + " records"
}

// describeNoteTime describes the time of a loss note.
func describeNoteTime(at string) string {
	if at == "" {
		return "noted at an unknown time"
	}
	return "noted at " + at
}

func explainFinding(f *audit.Finding) string {
	at, heartbeat := formatMinute(f.Since), formatMinute(f.Heartbeat)
	switch f.Kind {
	case audit.Missing:
		return "these were confirmed to be in the bucket or noted as lost, but they are neither"
	case audit.Gone:
		return "the heartbeat of " + heartbeat + " says that they were in the bucket, but now nothing of this log is there: deleted, or expired"
	case audit.Earlier:
		why := strings.Replace(formatRecords(f.Records()), " record", " earlier record", 1) + " are not here: expired, or lost"
		if f.Records() == 1 {
			why = "1 earlier record is not here: expired, or lost"
		}
		if heartbeat != "" {
			why += "; the host was retired at " + heartbeat
		}
		return why
	case audit.Silent:
		return "its latest heartbeat is of " + heartbeat + ": " + f.Reason
	case audit.Overdue, audit.NotYet:
		if heartbeat != "" {
			return "acknowledged according to the heartbeat of " + heartbeat + "; the oldest record that waited then was received at " + at
		}
		why := "received before " + at + ": the bucket has later records of that time"
		if at == "" {
			why = "received at an unknown time; the bucket has later records"
		}
		if f.Reason != "" {
			why += "; " + f.Reason
		}
		return why
	case audit.Doubled:
		return "each of the objects below contains these records"
	case audit.Forked:
		return "these runs continued from the same state of one log"
	case audit.Conflicting:
		return "the same name with different content: look at both, then delete one"
	case audit.Lost:
		switch f.Reason {
		case "evicted":
			return "evicted to make room (wal.when_full: drop_oldest), " + describeNoteTime(at)
		case "damaged":
			return "quarantined: the bytes no longer checked out, " + describeNoteTime(at)
		}
	}
	return f.Reason
}
