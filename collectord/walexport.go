package main

import (
	"bufio"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"collectord/shipper"
	"collectord/wal"
)

func walExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export SEGMENT",
		Short: "Print the records of one segment, whatever is wrong with it",
		Long: `Print the records of one segment that check out, one JSON object a line, in the form that they have in the bucket. It
changes nothing, and may be used while the daemon is running.

SEGMENT is a name that collectord wal ls prints, the name of something in the quarantine, or a path to a directory or
file, which may be a copy. If the name contains a range of records, only records of that range are printed. To print
all records of a file, copy it to another name.

If something could not be printed, it is listed on standard error, by sequence numbers and by bytes of the file, and the
exit status is 2.`,
		Example: `  collectord wal export 00000000000000000001-00000000000000000917 >records.ndjson
  collectord wal export ./copy-of-a-segment`,
		Args:              requireArgs(1, 1, "the name of a segment (collectord wal ls prints them)"),
		ValidArgsFunction: completeSegment,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := settings(cmd, "data_dir")
			if err != nil {
				return err
			}
			return walExport(cmd, cfg.DataDir, args[0])
		},
	}
}

// completeSegment completes the name of a segment or a file.
func completeSegment(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if cfg, err := settings(cmd, "data_dir"); err == nil {
		if log, err := wal.Inspect(cfg.DataDir); err == nil {
			entries, _ := log.Entries() // without the list there are no completions
			for _, e := range entries {
				names = append(names, e.Name)
			}
		}
	}
	return names, cobra.ShellCompDirectiveDefault
}

// segmentHint names the segment that begins with a name or number that is not found, or says
// where the names are. It returns "" if there is no log.
func segmentHint(dataDir, name string) string {
	log, err := wal.Inspect(dataDir)
	if err != nil || filepath.Base(name) != name {
		return ""
	}
	entries, _ := log.Entries() // without the list there is no suggestion
	for _, e := range entries {
		if seq, err := strconv.ParseUint(name, 10, 64); err == nil && seq == e.FirstSeq && e.Name != name {
			return "did you mean " + e.Name + "?"
		}
	}
	return "collectord wal ls prints the names"
}

func walExport(cmd *cobra.Command, dataDir, name string) error {
	log, entry, err := wal.Find(dataDir, name)
	if err != nil {
		if hint := segmentHint(dataDir, name); hint != "" {
			return fmt.Errorf("%w: %s", err, hint)
		}
		return withLogAdvice(err)
	}
	out := bufio.NewWriterSize(recordWriter(cmd), 64<<10)
	reportMissing := func(format string, args ...any) {
		writef(cmd.ErrOrStderr(), "not exported: "+format+"\n", args...)
	}
	var line []byte
	var unprintable, exported int
	report, err := log.Export(entry, func(r *wal.Record) error {
		var lineErr error
		if line, lineErr = shipper.AppendLine(line[:0], r); lineErr != nil {
			unprintable++
			reportMissing("seq %d: %v", r.Seq, lineErr)
			return nil
		}
		exported++
		_, err := out.Write(line)
		return err
	})
	switch err = errors.Join(err, out.Flush()); {
	case errors.Is(err, wal.ErrVersion):
		return notRightf("%v: install the version that wrote it", err)
	case err != nil:
		return err
	case report.Vanished:
		return notRightf("segment %s is gone by now: it was shipped, evicted or split; see collectord wal ls", entry.Name)
	case report.OK() && unprintable == 0:
		return nil
	}
	for _, g := range report.Lost {
		reportMissing("seq %d to %d", g.First, g.Last)
	}
	for _, d := range report.Damaged {
		reportMissing("bytes %d to %d", d.From, d.To-1)
	}
	if report.Reason == nil {
		report.Reason = errors.New("records are missing")
	}
	return notRightf("segment %s is not whole: exported %s: %v", entry.Name, plural(exported, "record"), report.Reason)
}
