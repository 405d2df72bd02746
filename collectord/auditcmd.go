package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"collectord/config"
	"collectord/shipper/audit"
)

func auditCommand() *cobra.Command {
	var o audit.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit",
		Short: "Say what the bucket proves about gaps and duplicates; exits with 2 if something is wrong",
		Long: `Say what the bucket proves about gaps and duplicates, from its listing, some metadata and the loss notes.

wrong (exit status 2):
  missing      a gap below what its host had confirmed to be complete: something deleted it
  overdue      a gap above that, which should have been filled by now (--grace)
  doubled      the same records in two objects, such as a copy within the bucket
  forked       other records under the same numbers: a snapshot of data_dir was restored, or run twice
  conflicting  two contents for one name
  truncated    an object whose end is cut off (--deep)
  damaged      an object that is not what its name and metadata say (--deep)
  unreadable   an object that the storage does not give (--deep)
told apart:
  not yet      a gap that may still be on its way
  lost         what a loss note says is evicted, or quarantined because it was damaged
  foreign      a file among the objects that collectord did not write
  vanished     an object that was deleted while it was audited (--deep)

Where objects have no metadata (folders, and copies by tools that drop it) it is not known what a host had confirmed,
and the audit says so: a gap is never missing there, but not yet there, and then overdue. Without metadata --deep checks
the checksum of each object's frame, the count and the order of ids, since nothing tells the SHA-256.

It can't see beyond the newest object of a log, or a log that vanished whole. Memory: 24 to 48 bytes for an object,
and with --deep 3 MiB for each that is read at once.`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.BoolVar(&o.Deep, "deep", false, "read every object: count, order of ids, SHA-256, and whether its end is there")
	f.BoolVar(&o.FromStart, "from-start", false, "what is not there before a log's first object is missing, too; leave it out where life-cycle rules expire objects")
	f.DurationVar(&o.Grace, "grace", 24*time.Hour, "how long a record may be on its way")
	f.IntVar(&o.Workers, "at-once", 0, "objects that --deep reads at once (default: two for each CPU, at least 4)")
	f.BoolVar(&asJSON, "json", false, "one JSON object a line, for programs: findings, then logs, then the sum")
	config.AddFlags(f)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, _, err := settings(cmd)
		if err != nil {
			return err
		}
		if o.Workers < 0 || o.Workers > 256 || o.Grace <= 0 {
			return fmt.Errorf("--at-once is up to 256, and --grace more than 0")
		}
		store, err := openStoreToRead(cfg)
		if err != nil {
			return err
		}
		bar := newProgress(cmd.ErrOrStderr())
		bar.what = "objects listed"
		o.Progress = func(done, of int) { bar.set(int64(done), int64(of)) }
		began := time.Now()
		r, err := audit.Run(cmd.Context(), store, o)
		bar.clear()
		if err != nil {
			return err
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		if asJSON {
			err = auditJSON(out, store.String(), r, time.Since(began))
		} else {
			err = auditText(out, store.String(), r, o.Deep)
		}
		if err == nil {
			err = out.Flush()
		}
		if err == nil && r.Wrong() {
			return notRightf("the bucket is not right: %s", wrongs(r))
		}
		return err
	}
	return c
}

// auditSum is the last line of audit --json.
type auditSum struct {
	Right       bool                       `json:"right"`
	Destination string                     `json:"destination"`
	Objects     int                        `json:"objects"`
	LossNotes   int                        `json:"loss_notes"`
	Logs        int                        `json:"logs"`
	Found       map[audit.Kind]audit.Tally `json:"found"`
	NotListed   int                        `json:"findings_not_listed"` // beyond the bound
	Unconfirmed int                        `json:"logs_unconfirmed"`    // with gaps, and nothing tells what was confirmed
	Read        int                        `json:"objects_read"`
	RawBytes    int64                      `json:"raw_bytes_read"`
	NoMetadata  int                        `json:"objects_without_metadata"` // of those read
	Seconds     float64                    `json:"seconds"`
}

func auditJSON(out io.Writer, destination string, r *audit.Report, took time.Duration) error {
	lines := json.NewEncoder(out)
	for _, f := range r.Findings {
		if err := lines.Encode(f); err != nil {
			return err
		}
	}
	for _, l := range r.Logs {
		if err := lines.Encode(l); err != nil {
			return err
		}
	}
	return lines.Encode(auditSum{
		Right: !r.Wrong(), Destination: destination, Objects: r.Objects, LossNotes: r.Notes, Logs: len(r.Logs), Found: r.Tallies,
		NotListed: notListed(r), Unconfirmed: r.Unconfirmed, Read: r.Read, RawBytes: r.RawBytes, NoMetadata: r.NoMetadata,
		Seconds: took.Seconds(),
	})
}

func notListed(r *audit.Report) (n int) {
	for _, t := range r.Tallies {
		n += t.Findings
	}
	return n - len(r.Findings)
}

// wrongs sums up what is wrong.
func wrongs(r *audit.Report) string {
	var parts []string
	for _, k := range audit.Kinds() {
		if t := r.Tallies[k]; k.Wrong() && t.Findings > 0 {
			parts = append(parts, tell(k, t))
		}
	}
	return strings.Join(parts, ", ")
}

func tell(k audit.Kind, t audit.Tally) string {
	text := plural(t.Findings, string(k)+" range")
	switch k {
	case audit.Truncated, audit.Damaged, audit.Unreadable, audit.Foreign, audit.Vanished:
		text = plural(t.Findings, string(k)+" object")
	case audit.Conflicting:
		text = plural(t.Findings, "conflicting name")
	case audit.NotYet:
		text = plural(t.Findings, "range") + " not yet there"
	}
	if t.Records > 0 {
		text += fmt.Sprintf(" (%s)", plural(int(t.Records), "record"))
	}
	return text
}

// auditText says first what is wrong.
func auditText(out io.Writer, destination string, r *audit.Report, deep bool) error {
	verdict := "RIGHT: nothing is missing, overdue, doubled, forked or conflicting"
	if deep {
		verdict += ", and every object is what it says"
	}
	if r.Wrong() {
		verdict = "NOT RIGHT: " + wrongs(r)
	}
	fmt.Fprintln(out, verdict)
	for _, f := range r.Findings {
		tellFinding(out, &f)
	}
	if n := notListed(r); n > 0 {
		fmt.Fprintf(out, "\n… and %s more\n", plural(n, "finding"))
	}
	if r.Unconfirmed > 0 {
		fmt.Fprintf(out, "\nNOT KNOWN  what the hosts of %s had confirmed: there is no metadata, as in a folder\n", plural(r.Unconfirmed, "log"))
		fmt.Fprintln(out, "  so no gap of theirs is called missing, whether its records were deleted or never came")
	}
	if r.NoMetadata > 0 {
		fmt.Fprintf(out, "\nNOT KNOWN  the SHA-256 of the lines of %s: there is no metadata, as in a folder\n", plural(r.NoMetadata, "object"))
		fmt.Fprintln(out, "  these were checked by the checksum of their frame, their count and their ids")
	}
	fmt.Fprintf(out, "\n%s: %s, %s\n", destination, plural(r.Objects, "object"), plural(r.Notes, "loss note"))
	if len(r.Logs) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tLOG\tRUNS\tOBJECTS\tRECORDS\tFIRST SEQ\tLAST SEQ\tFROM\tTO")
	for _, l := range r.Logs {
		from, to := "-", "-"
		if l.Objects > 0 {
			from, to = l.From.Format("2006-01-02T15Z"), l.To.Format("2006-01-02T15Z")
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n",
			strings.Join(l.Nodes, " "), l.LogID, l.Runs, l.Objects, l.Records, l.FirstSeq, l.LastSeq, from, to)
	}
	return table.Flush()
}

func tellFinding(out io.Writer, f *audit.Finding) {
	fmt.Fprintf(out, "\n%s", strings.ToUpper(strings.ReplaceAll(string(f.Kind), "_", " ")))
	if f.FirstSeq > 0 {
		fmt.Fprintf(out, "  seq %d to %d (%s) of %s, log %s", f.FirstSeq, f.LastSeq, plural(int(f.Records()), "record"), f.Node, f.LogID)
		if len(f.Runs) > 0 {
			fmt.Fprintf(out, ", run %s", strings.Join(f.Runs, " and "))
		}
	}
	fmt.Fprintln(out)
	if why := reason(f); why != "" {
		fmt.Fprintf(out, "  %s\n", why)
	}
	for _, k := range f.Keys {
		fmt.Fprintf(out, "  %s\n", k)
	}
}

func reason(f *audit.Finding) string {
	at := ""
	if f.Since != nil && !f.Since.IsZero() {
		at = f.Since.UTC().Format("2006-01-02T15:04Z")
	}
	switch f.Kind {
	case audit.Missing:
		return "it was confirmed that these were in the bucket, or noted as lost; they are not"
	case audit.Overdue, audit.NotYet:
		why := "received before " + at + ", like what comes after it and is there"
		if f.Reason != "" {
			why += "; " + f.Reason
		}
		return why
	case audit.Doubled:
		return "each of these holds them"
	case audit.Forked:
		return "these runs went on from the same state of one log"
	case audit.Conflicting:
		return "the same name with other content: one is to go, after a look at both"
	case audit.Lost:
		switch f.Reason {
		case "evicted":
			return "evicted to make room (wal.when_full: drop_oldest), noted at " + at
		case "damaged":
			return "quarantined: the bytes did not check out any more, noted at " + at
		}
	}
	return f.Reason
}
