package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"collectord/shipper/audit"
	"collectord/shipper/bucket"
)

// rememberedIDs is the number of different ids that cat --dedupe always remembers. It
// remembers up to twice as many, in about 130 MiB.
const rememberedIDs = 1_000_000

// catMemoryLimit is the soft memory limit of cat without --dedupe. It covers the objects
// fetched ahead, a window of 8 MiB and a line of 16 MiB.
const catMemoryLimit = 36 << 20

// catFlags are the flags of cat.
type catFlags struct {
	ids            []string
	from, to       string
	usages, dedupe bool
}

func catCommand() *cobra.Command {
	var o catFlags
	c := &cobra.Command{
		Use:   "cat [destination...]",
		Short: "Print the records that were shipped, one JSON object a line, by node and time",
		Long: `Print the records in the bucket, one JSON object a line, sorted by hour, node and sequence number. Several destinations
are printed one after the other.

` + destinationsHelp + `

Usages that a host has not shipped yet are not in the bucket: collectord wal cat prints these on the host.

--from and --to are times of receipt: RFC 3339 (2026-11-23T08:00:00Z), a date (its midnight UTC), or how long ago (90s,
15m, 2h, 7d). Only objects that can contain such records are listed and read. An id of version 7 contains its time. An
id that was derived from an Idempotency-Key contains no time: all objects are searched for it, unless times are given.

--dedupe prints each id once. It remembers the last 1 to 2 million different ids, in about 130 MiB. Repeats that are
further apart are printed, with a warning.

The readable part of a damaged object is printed. A line of more than 16 MiB counts as damage, and so do more lines than
the object's name has records. An object that the storage lists but does not return is skipped. In each of these cases
the exit status is 2. In a folder, only regular files are read.

On a terminal, control characters are printed escaped, such as \u001b. Into a pipe or file, bytes are written unchanged.
Objects are fetched ahead. Without --dedupe the command uses at most 64 MiB of memory.`,
		Example: `  collectord cat --from 2h
  collectord cat --from 2026-11-23 --to 2026-11-24 --node edge-1 --usages
  collectord cat --id 01a20a8b-6c1e-7b3a-9c41-1f2e3d4c5b6a 's3://usages/*/'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeDestination,
		GroupID:           groupBucket,
		SuggestFor:        []string{"read", "query", "get", "dump"},
	}
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "records received at this time or later")
	f.StringVar(&o.to, "to", "", "records received before this time")
	f.StringSliceVar(&o.ids, "id", nil, "records with these ids only; exits with 1 if one is not found")
	f.BoolVar(&o.usages, "usages", false, "print the usages alone, as they were sent")
	f.BoolVar(&o.dedupe, "dedupe", false, "print an id once")
	addStorageFlags(f)
	f.Lookup("node").Usage = "records of this node only"
	c.RunE = o.run
	return c
}

func (o *catFlags) run(cmd *cobra.Command, named []string) error {
	cfg, err := settings(cmd, bucketKeys...)
	if err != nil {
		return err
	}
	s, err := o.selection()
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("node") {
		s.Node = cfg.Node
	}
	stores, err := storesToRead(cmd.Context(), cfg, named)
	if err != nil {
		return err
	}
	// SIGPIPE ends the process when the reader closes the pipe, as with other
	// filters.
	out := bufio.NewWriterSize(recordWriter(cmd), 64<<10)
	bar := newProgress(cmd.ErrOrStderr())
	if bar.what = "objects"; newProgress(os.Stdout).out != nil {
		bar = &progress{} // the records are printed on the same terminal
	}
	defer bar.clear()
	p := recordPrinter{out: out, usages: o.usages}
	if o.dedupe {
		p.recent = audit.NewRecentIDs(rememberedIDs)
	} else {
		debug.SetMemoryLimit(catMemoryLimit)
	}
	err = s.RecordsOfAll(cmd.Context(), stores, func(objects int) { bar.set(int64(objects), 0) }, p.print)
	if o.dedupe && p.recent.HasForgotten() {
		bar.clear()
		writef(cmd.ErrOrStderr(), "collectord: more than %d different ids: an id that was repeated after so many others may have been printed twice\n", rememberedIDs)
	}
	err = errors.Join(err, out.Flush())
	var damaged *audit.DamagedError
	if errors.As(err, &damaged) {
		err = notRightf("%v; collectord audit --deep shows more", err)
	}
	return err
}

// selection returns the records that the flags select.
func (o *catFlags) selection() (s audit.Selection, err error) {
	now := time.Now()
	if s.From, err = parseTime(o.from, now); err != nil {
		return s, fmt.Errorf("--from: %w", err)
	}
	if s.To, err = parseTime(o.to, now); err != nil {
		return s, fmt.Errorf("--to: %w", err)
	}
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		return s, errors.New("--from must be before --to")
	}
	for _, text := range o.ids {
		id, err := bucket.ParseID(text)
		if err != nil {
			return s, fmt.Errorf("--id: %w", err)
		}
		s.IDs = append(s.IDs, id)
	}
	return s, nil
}

// recordPrinter prints lines, or only their usages.
type recordPrinter struct {
	out    *bufio.Writer
	usages bool
	recent *audit.RecentIDs // ids that are not printed again; nil: all lines are printed
}

func (p *recordPrinter) print(lines []byte) (err error) {
	if !p.usages && p.recent == nil {
		_, err = p.out.Write(lines)
		return err
	}
	for line := range bytes.Lines(lines) {
		line := bucket.Line(line)
		if id, ok := line.ID(); p.recent != nil && ok && !p.recent.Add(id) {
			continue
		}
		if p.usages {
			_, _ = p.out.Write(line.Usage()) // the writer keeps the error for the next write
			err = p.out.WriteByte('\n')
		} else {
			_, err = p.out.Write(line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseTime parses an RFC 3339 time, a date, or an age such as 2h or 7d. The empty
// text means the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	ago, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n uint64
		if n, err = strconv.ParseUint(days, 10, 16); err == nil {
			ago = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time: write 2026-11-23T08:00:00Z, 2026-11-23, or how long ago, such as 15m, 2h or 7d", text)
	}
	return now.Add(-ago), nil
}
