package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"collectord/config"
	"collectord/shipper"
	"collectord/wal"
)

func walCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "wal",
		Short: "Look at the log in data_dir: what waits, and what is damaged; repair it",
		Long: `Look at the log in data_dir, which contains what is not shipped yet, and for shipper.keep (5 minutes) what is. ls, verify,
cat and export change nothing; they and acknowledge may be used while the daemon is running. The daemon repairs a damaged
segment when it reads it; repair repairs all of them at once, while no daemon is running.`,
		Example: `  collectord wal ls
  collectord wal verify --data-dir /var/lib/collectord
  collectord wal export 00000000000000000001-00000000000000000917 >records.ndjson`,
		GroupID: groupHost,
	}
	config.AddFlags(c.PersistentFlags(), "data_dir")
	otherWords := map[string][]string{
		"ls":     {"list", "segments"},
		"verify": {"check", "fsck", "scrub", "damaged"},
		"cat":    {"show", "read", "dump"},
		"repair": {"fix", "recover"},
	}
	addSub := func(use, short, example string, run func(*cobra.Command, *config.Config, bool) error, moreKeys ...string) {
		s := &cobra.Command{Use: use, Short: short, Example: example, SuggestFor: otherWords[use]}
		asJSON := s.Flags().Bool("json", false, "one JSON object a line, for programs")
		s.RunE = func(cmd *cobra.Command, _ []string) error {
			cfg, err := settings(cmd, append(moreKeys, "data_dir")...)
			if err != nil {
				return err
			}
			return run(cmd, cfg, *asJSON)
		}
		if use == "cat" {
			s.Flags().Lookup("json").Hidden = true // cat always prints JSON
		}
		c.AddCommand(s)
	}
	addSub("ls", "List the segments, and what was put aside", "  collectord wal ls --json", walLs, "shipper.keep", "shipper.destination")
	addSub("verify", "Read every segment and check every checksum; exits with 2 if bytes do not check out", `  collectord wal verify
  collectord wal verify --json | grep '"ok":false'`, walVerify)
	addSub("cat", "Print the records that check out, one JSON object a line", "  collectord wal cat >records.ndjson", walCat)
	c.AddCommand(walExportCommand(), walAcknowledgeCommand())
	addSub("repair", "Seal the segments that a crash left open, and save the valid records of damaged ones; stop the daemon first", `  systemctl stop collectord
  collectord wal repair`, walRepair, "node", "wal")
	return c
}

// segmentLine is the output of ls and verify for a segment.
type segmentLine struct {
	Segment  string     `json:"segment"`
	State    string     `json:"state"`
	FirstSeq uint64     `json:"first_seq,omitempty"`
	LastSeq  uint64     `json:"last_seq,omitempty"`
	Records  uint64     `json:"records"`
	Bytes    int64      `json:"bytes"`
	Modified *time.Time `json:"modified,omitempty"`

	// Only in verify.
	OK      *bool       `json:"ok,omitempty"`
	LogID   string      `json:"log_id,omitempty"`
	Run     string      `json:"run,omitempty"`
	Node    string      `json:"node,omitempty"`
	Damaged [][2]int64  `json:"damaged_bytes,omitempty"` // from, to (exclusive)
	Lost    [][2]uint64 `json:"lost_seqs,omitempty"`     // first, last (inclusive)
	Reason  string      `json:"reason,omitempty"`
}

func newSegmentLine(e wal.Entry) segmentLine {
	l := segmentLine{Segment: e.Name, State: string(e.State), FirstSeq: e.FirstSeq, LastSeq: e.LastSeq, Bytes: e.Bytes}
	if e.LastSeq > 0 {
		l.Records = e.LastSeq - e.FirstSeq + 1
	}
	if !e.Modified.IsZero() {
		l.Modified = &e.Modified
	}
	return l
}

func walLs(cmd *cobra.Command, cfg *config.Config, asJSON bool) error {
	log, err := inspect(cfg.DataDir)
	if err != nil {
		return err
	}
	entries, err := log.Entries()
	if err != nil {
		return err
	}
	if asJSON {
		out := json.NewEncoder(cmd.OutOrStdout())
		for _, e := range entries {
			if err := out.Encode(newSegmentLine(e)); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	writef(table, "STATE\tSEGMENT\tRECORDS\tBYTES\tMODIFIED\n")
	var records uint64
	var bytes int64
	for _, e := range entries {
		l := newSegmentLine(e)
		count, modified := "-", "-"
		if e.LastSeq > 0 {
			count = fmt.Sprint(l.Records)
		}
		if l.Modified != nil {
			modified = l.Modified.UTC().Format(time.RFC3339)
		}
		writef(table, "%s\t%s\t%s\t%d\t%s\n", l.State, l.Segment, count, l.Bytes, modified)
		records += l.Records
		bytes += l.Bytes
	}
	writef(table, "\ttotal, sealed records\t%d\t%d\t\n", records, bytes)
	if err := table.Flush(); err != nil {
		return err
	}
	aside, err := log.PutAside()
	if len(aside) > 0 {
		writef(cmd.OutOrStdout(), "\nput aside, and not acknowledged yet (collectord wal acknowledge):\n")
	}
	for _, one := range aside {
		writef(cmd.OutOrStdout(), "  %s\n", one.Path)
	}
	if records > 0 && cfg.Shipper.Keep > 0 && !isFolder(cfg) {
		writef(cmd.OutOrStdout(), "\nSome sealed segments may be shipped already: a segment stays for %v (shipper.keep) after the storage confirmed it. Only the running daemon knows how many these are: collectord status.\n", cfg.Shipper.Keep)
	}
	return err
}

func walVerify(cmd *cobra.Command, cfg *config.Config, asJSON bool) error {
	damaged := 0
	encoder := json.NewEncoder(cmd.OutOrStdout())
	err := examineAll(cmd, cfg.DataDir, nil, func(e wal.Entry, r *wal.Report) error {
		if !r.OK() {
			damaged++
		}
		if asJSON {
			return encoder.Encode(verifyLine(e, r))
		}
		_, err := io.WriteString(cmd.OutOrStdout(), verifyText(e, r))
		return err
	})
	if err != nil {
		return err
	}
	if damaged > 0 {
		return notRightf("the log is damaged: %s; the daemon saves the records that check out when it ships a segment, and collectord wal repair saves all of them now, while no daemon runs (collectord wal export prints those of one segment, and changes nothing)", plural(damaged, "segment"))
	}
	return nil
}

func verifyLine(e wal.Entry, r *wal.Report) segmentLine {
	l := newSegmentLine(e)
	ok := r.OK()
	l.OK, l.Records = &ok, r.Records
	l.LastSeq = r.LastSeq
	if r.Header.LogID != 0 {
		l.LogID, l.Run, l.Node = fmt.Sprintf("%016x", r.Header.LogID), fmt.Sprintf("%016x", r.Header.Run), r.Header.Node
	}
	for _, d := range r.Damaged {
		l.Damaged = append(l.Damaged, [2]int64{d.From, d.To})
	}
	for _, g := range r.Lost {
		l.Lost = append(l.Lost, [2]uint64{g.First, g.Last})
	}
	if r.Reason != nil {
		l.Reason = r.Reason.Error()
	}
	return l
}

// verifyText returns the text of verify for a segment.
func verifyText(e wal.Entry, r *wal.Report) string {
	var b strings.Builder
	if r.OK() {
		writef(&b, "ok       %s  %d records\n", e.Name, r.Records)
		return b.String()
	}
	writef(&b, "DAMAGED  %s  %d records check out: %v\n", e.Name, r.Records, r.Reason)
	for _, d := range r.Damaged {
		writef(&b, "         bytes %d to %d\n", d.From, d.To-1)
	}
	for _, g := range r.Lost {
		writef(&b, "         lost: seq %d to %d\n", g.First, g.Last)
	}
	return b.String()
}

func walCat(cmd *cobra.Command, cfg *config.Config, _ bool) error {
	out := bufio.NewWriterSize(recordWriter(cmd), 64<<10)
	damaged := 0
	var line []byte
	err := examineAll(cmd, cfg.DataDir, func(r *wal.Record) (err error) {
		if line, err = shipper.AppendLine(line[:0], r); err == nil {
			_, err = out.Write(line)
		}
		return err
	}, func(_ wal.Entry, r *wal.Report) error {
		if !r.OK() {
			damaged++
		}
		return nil
	})
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	if damaged > 0 {
		return notRightf("the log is damaged: records are missing in %s; collectord wal verify names them", plural(damaged, "segment"))
	}
	return nil
}

// examineAll reads all segments that may contain records. It skips segments of a later
// version, with a message.
func examineAll(cmd *cobra.Command, dataDir string, each func(*wal.Record) error, done func(wal.Entry, *wal.Report) error) error {
	log, err := inspect(dataDir)
	if err != nil {
		return err
	}
	entries, err := log.Entries()
	if err != nil {
		return err
	}
	bar := newProgress(cmd.ErrOrStderr())
	for _, e := range entries {
		bar.total += e.Bytes
	}
	defer bar.clear()
	for _, e := range entries {
		bar.advance(e.Bytes)
		if e.State == wal.StateNext || e.State == wal.StateGone {
			continue
		}
		r, err := log.Examine(e, each)
		if errors.Is(err, wal.ErrVersion) {
			writef(cmd.ErrOrStderr(), "skipped: %v\n", err)
			continue
		}
		if err != nil {
			return err
		}
		if r.Vanished {
			continue
		}
		if err := done(e, r); err != nil {
			return err
		}
	}
	return nil
}

func walRepair(cmd *cobra.Command, cfg *config.Config, asJSON bool) error {
	if err := becomeLogOwner(cfg.DataDir); err != nil {
		return err
	}
	if _, err := inspect(cfg.DataDir); err != nil {
		return err // no log: don't create one
	}
	var logger *slog.Logger
	if asJSON {
		logger = slog.New(slog.NewJSONHandler(cmd.OutOrStdout(), nil))
	} else {
		logger = slog.New(slog.NewTextHandler(cmd.OutOrStdout(), nil))
	}
	o := walOptions(cfg, logger)
	o.MaxBytes, o.WhenFull = math.MaxInt64, wal.Reject // a repair must not evict anything
	log, err := wal.Open(cfg.DataDir, o)
	if err != nil {
		return withInUseAdvice(err, "the daemon repairs damaged segments by itself; to repair them now, stop the daemon first (systemctl stop collectord)")
	}
	if err = awaitStart(cmd.Context(), log, repairTimeout); err == nil {
		err = repair(cmd, log, logger)
	}
	return errors.Join(err, log.Close())
}

func repair(cmd *cobra.Command, log *wal.Log, logger *slog.Logger) error {
	segments, _ := log.Sealed()
	bar := newProgress(cmd.ErrOrStderr())
	for _, s := range segments {
		bar.total += s.Bytes()
	}
	defer bar.clear()
	before := log.Ledger()
	salvaged, failed := 0, error(nil)
	for _, s := range segments {
		bar.advance(s.Bytes())
		var damage error
		for _, err := range s.Records() {
			damage = err
		}
		var bad *wal.DamageError
		switch {
		case errors.Is(damage, wal.ErrVersion):
			logger.Warn("left alone a segment of a later version", "segment", s.String())
			continue
		case damage != nil && !errors.As(damage, &bad) && !errors.Is(damage, fs.ErrNotExist):
			failed = errors.Join(failed, fmt.Errorf("segment %s: %w", s, damage))
			continue
		case damage == nil:
			continue
		}
		changed, err := salvage(log, s)
		failed = errors.Join(failed, err)
		if changed {
			salvaged++
		}
	}
	if failed != nil {
		return failed
	}
	after := log.Ledger()
	if unread := log.Unread(); len(unread) > 0 {
		return notRightf("%s of the log can't be read: see to the disk, and to the owner and mode of the files, then run this again, or start the daemon, which reads the ranges again", plural(len(unread), "range"))
	}
	logger.Info("the log is in order", "records", after.Pending, "salvaged_segments", salvaged,
		"lost_records", after.Quarantined-before.Quarantined, "missing_records", before.Quarantined)
	return nil
}

// inspect opens the log in a data directory for reading.
func inspect(dataDir string) (*wal.Inspector, error) {
	log, err := wal.Inspect(dataDir)
	return log, withLogAdvice(err)
}

// withLogAdvice adds advice to the error of a log that can't be opened.
func withLogAdvice(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w (name the daemon's directory with --data-dir, or its configuration with --config)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (run this as the daemon's user, or as root)", err)
	}
	return err
}

// withInUseAdvice adds advice to the error of a log that another process uses.
func withInUseAdvice(err error, advice string) error {
	if held := (*wal.InUseError)(nil); errors.As(err, &held) {
		return fmt.Errorf("%w: %s", err, advice)
	}
	return err
}

// repairTimeout is how long repair waits for a failing disk.
const repairTimeout = 10 * time.Second

// salvageRetryDelay is the delay before repair reads again what the disk did not return.
const salvageRetryDelay = time.Second

// salvage salvages a segment. It repeats reads that the disk fails, until the log gives
// up on them.
func salvage(log *wal.Log, s *wal.Segment) (changed bool, err error) {
	for {
		changed, err = log.Salvage(s)
		if unread := (*wal.UnreadableError)(nil); !errors.As(err, &unread) {
			return changed, err
		}
		<-time.After(salvageRetryDelay)
	}
}
