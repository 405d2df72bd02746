package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"collectord/shipper/audit"
)

// auditFlags are the flags of audit.
type auditFlags struct {
	audit.Options
	json        bool
	expected    []string
	silentAfter time.Duration
	acceptPath  string
}

func auditCommand() *cobra.Command {
	var o auditFlags
	c := &cobra.Command{
		Use:   "audit [destination...]",
		Short: "Find what is missing, doubled or damaged in the bucket; exits with 2 if something is",
		Long: `Report what the bucket proves about gaps and duplicates. The report is based on the listing of the bucket, some metadata,
the loss notes, and the heartbeats of hosts.

` + destinationsHelp + `

These are wrong (exit status 2; 1 if there is an error):
  error        one of several destinations can't be read; the others are audited. For a single destination there is no report
  nothing      no records were found at all: the prefix or node is wrong, or everything was deleted
  absent       a node of --expect has neither objects nor a heartbeat
  silent       the heartbeat of a node of --expect is older than --silent-after
  missing      a gap in the range that its host had confirmed as complete: somebody deleted objects
  gone         a whole log: according to its heartbeat its records were here, but none is left
  overdue      a gap after the confirmed range, or records that a host acknowledged; they should be here by now (--grace)
  doubled      the same records in two objects, such as a copy within the bucket
  forked       different records under the same numbers: a snapshot of data_dir was restored, or two daemons
               ran on copies of it
  conflicting  two contents for one name
  truncated    an object whose end is cut off (--deep)
  damaged      an object that contradicts its name or metadata (--deep), or whose name is impossible
  unreadable   an object, loss note or heartbeat that the storage lists but does not return. The audit goes on:
               each of these delays one of the --at-once readers for less than a minute
These are reported separately, and are not wrong:
  not yet      a gap, or records that a host acknowledged, that may still be on their way
  earlier      records before the first one that is left of a log: expired, or lost. With --from-start they are missing
  lost         records that were evicted, or quarantined because they were damaged, according to a loss note
  foreign      a file among the objects that collectord did not write
  deleted      an object that was deleted while it was audited (--deep)

Objects in folders have no metadata, and some tools drop it when they copy. Without metadata and without a heartbeat, it
is not known what a host had confirmed. The audit reports that. It calls a gap in such a log "not yet there", and later
"overdue", but never "missing". Without metadata there is no SHA-256, so --deep checks the checksum of each object's
frame, the count, and the order of ids. Without heartbeats it can't find records after the newest object of a log, nor
a log that is gone as a whole.

--accept names a file of known incidents, one a line. Their findings are printed separately, and are no longer wrong:

    # log id          records    who    why, to the end of the line
    0a1b2c3d4e5f6789  2001-4000  alice  the disk of edge-7 was replaced, ticket 4711

Memory: 24 bytes for each object, and with --deep 3 MiB for each object that is being read.`,
		Example: `  collectord audit
  collectord audit --deep s3://usages/clinic-7
  collectord audit --expect edge-1,edge-2 --accept known.txt --json 's3://usages/*/'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeDestination,
		GroupID:           groupBucket,
		SuggestFor:        []string{"gaps", "holes", "prove"},
	}
	f := c.Flags()
	f.BoolVar(&o.Deep, "deep", false, "read every object, and check its count, order of ids, SHA-256, and whether it is complete")
	f.BoolVar(&o.FromStart, "from-start", false, "count records before a log's first object as missing; leave it out if life-cycle rules expire objects")
	f.DurationVar(&o.Grace, "grace", 24*time.Hour, "how long a record may take to reach the bucket")
	f.IntVar(&o.Workers, "at-once", 0, "objects that --deep reads at once (default: two for each CPU, at least 4)")
	f.BoolVar(&o.json, "json", false, "one JSON object a line, for programs: findings, then logs, then the sum")
	f.StringSliceVar(&o.expected, "expect", nil, "nodes that must have objects or a heartbeat, and no heartbeat older than --silent-after; with --node only that node")
	f.DurationVar(&o.silentAfter, "silent-after", 3*time.Hour, "how old the heartbeat of a node of --expect may be; hosts write at least one an hour")
	f.StringVar(&o.acceptPath, "accept", "", "file of incidents that are known")
	addStorageFlags(f)
	f.Lookup("node").Usage = "logs of this node only"
	c.RunE = o.run
	return c
}

func (o *auditFlags) run(cmd *cobra.Command, named []string) error {
	cfg, err := settings(cmd, bucketKeys...)
	if err != nil {
		return err
	}
	if o.Workers < 0 || o.Workers > 256 || o.Grace <= 0 || o.silentAfter <= 0 {
		return fmt.Errorf("--at-once must be at most 256, and --grace and --silent-after must be more than 0")
	}
	if cmd.Flags().Changed("node") {
		o.Node = cfg.Node
	}
	for _, node := range o.expected {
		if o.Node != "" && node != o.Node {
			return fmt.Errorf("--expect %s: with --node only %s is audited: leave out --node to audit all, or expect %s alone", node, o.Node, o.Node)
		}
	}
	if o.Accepted, err = readAccepted(o.acceptPath); err != nil {
		return err
	}
	stores, err := storesToAudit(cmd.Context(), cfg, named)
	if err != nil {
		return err
	}
	if !o.Deep { // Deep reads need much memory and reuse it, so only a listing gets the tight limits.
		debug.SetMemoryLimit(auditMemoryLimit)
		debug.SetGCPercent(auditGCPercent)
	}
	bar := newProgress(cmd.ErrOrStderr())
	bar.what = "objects listed"
	o.Progress = func(done, of int) { bar.set(int64(done), int64(of)) }
	began := time.Now()
	r, err := audit.RunAll(cmd.Context(), stores, o.Options)
	bar.clear()
	if err != nil {
		return err
	}
	r.Expect(o.expected, o.silentAfter, time.Now())
	destinations, unused := strings.Join(storeNames(stores), ", "), o.Accepted.Unused()
	out := bufio.NewWriter(cmd.OutOrStdout())
	if o.json {
		err = auditJSON(out, destinations, r, unused, time.Since(began))
	} else {
		err = auditText(out, destinations, r, unused, o.Deep)
	}
	if err == nil {
		err = out.Flush()
	}
	if failed := r.Failed(); err == nil && len(failed) > 0 {
		return noVerdictError(len(failed), len(stores), failed[0].Destination, failed[0].Reason)
	}
	if err == nil && r.Wrong() {
		return notRightf("the bucket is not right: %s", summarizeWrong(r))
	}
	return err
}

// auditSummary is the last line of audit --json.
type auditSummary struct {
	Right       bool                       `json:"right"`
	Destination string                     `json:"destination"`
	Objects     int                        `json:"objects"`
	LossNotes   int                        `json:"loss_notes"`
	Heartbeats  int                        `json:"heartbeats"`
	Logs        int                        `json:"logs"`
	Found       map[audit.Kind]audit.Tally `json:"found"`
	Accepted    map[audit.Kind]audit.Tally `json:"accepted"`            // by --accept; not counted in found
	Unused      []audit.Acceptance         `json:"accepts_nothing"`     // lines of --accept that match no finding
	NotListed   int                        `json:"findings_not_listed"` // found, but over the limit of listed findings
	Unconfirmed int                        `json:"logs_unconfirmed"`    // gaps, and no record of what was confirmed
	Read        int                        `json:"objects_read"`
	RawBytes    int64                      `json:"raw_bytes_read"`
	NoMetadata  int                        `json:"objects_without_metadata"` // among the objects read
	Seconds     float64                    `json:"seconds"`
}

func auditJSON(out io.Writer, destination string, r *audit.Report, unused []audit.Acceptance, took time.Duration) error {
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
	return lines.Encode(auditSummary{
		Right: !r.Wrong(), Destination: destination, Objects: r.Objects, LossNotes: r.Notes, Heartbeats: r.Heartbeats, Logs: len(r.Logs),
		Found: r.Tallies, Accepted: r.Accepted, Unused: unused,
		NotListed: countNotListed(r), Unconfirmed: r.Unconfirmed, Read: r.Read, RawBytes: r.RawBytes, NoMetadata: r.NoMetadata,
		Seconds: took.Seconds(),
	})
}

func countNotListed(r *audit.Report) (n int) {
	for _, tallies := range []map[audit.Kind]audit.Tally{r.Tallies, r.Accepted} {
		for _, t := range tallies {
			n += t.Findings
		}
	}
	return n - len(r.Findings)
}

// readAccepted reads the file of --accept. It returns nil if path is empty.
func readAccepted(path string) (*audit.Accepted, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // nil accepts nothing
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--accept: %w", err)
	}
	defer file.Close()
	return audit.ReadAccepted(file, "--accept "+path)
}
