package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"collectord/config"
	"collectord/shipper"
	"collectord/wal"
)

// shipRetryMax is the maximum delay between attempts, short because an operator is
// waiting.
const shipRetryMax = 10 * time.Second

// lastHeartbeatTimeout is the time limit for writing the final heartbeat.
const lastHeartbeatTimeout = 10 * time.Second

// shipKeys lists the configuration keys of ship, which opens the log as the daemon
// does.
var shipKeys = []string{"node", "data_dir", "wal", "shipper", "log"} //nolint:gochecknoglobals // a constant

func shipCommand() *cobra.Command {
	var asJSON bool
	var noWait bool
	var archive string
	var giveUpAfter time.Duration
	c := &cobra.Command{
		Use:   "ship",
		Short: "Upload everything that is on this host, to take it out of service; no daemon may run",
		Long: `Upload all segments on this host, sealed or not, and the loss notes. Exit with 0 once the storage has all of them. Use
this before the host is taken out of service. Stop the daemon first: while it runs, it ships by itself.

After the uploads the command waits for shipper.keep, and checks that the storage still has what it confirmed. Lost
objects are shipped again, and the command waits again. With --no-wait, or if the destination is a folder, a segment
is removed as soon as it is confirmed.

The command exits with 2, and reports what is left, if nothing could be shipped for --give-up-after, or if it is
interrupted. What is left stays in the log, and another run or the daemon can ship it.

When all is shipped, the host's heartbeat in the bucket marks the host as retired. collectord fleet lists it as retired
until a daemon writes the next heartbeat.

With --archive it uploads the objects of a folder, such as an earlier destination, to the configured destination, under
the same keys and with the same proof. Objects that the storage has are removed from the folder. Objects that can't be
read stay in the folder, and are named. A daemon may run meanwhile.`,
		Example: `  systemctl disable --now collectord
  collectord ship
  collectord ship --give-up-after 10m --json
  collectord ship --archive /var/lib/collectord/archive`,
		GroupID:    groupHost,
		SuggestFor: []string{"upload", "drain", "retire", "decommission"},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "the result as one JSON object, for programs")
	c.Flags().DurationVar(&giveUpAfter, "give-up-after", 2*time.Minute, "give up when attempts fail and nothing was shipped for this long; 0: never")
	c.Flags().BoolVar(&noWait, "no-wait", false, "don't check again that the storage has kept what it confirmed")
	c.Flags().StringVar(&archive, "archive", "", "upload only the objects of this folder, such as an earlier destination")
	config.AddFlags(c.Flags(), "node", "data_dir", "shipper.destination", "shipper.s3.endpoint", "shipper.s3.region", "log.level", "log.format")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings(cmd, shipKeys...)
		if err != nil {
			return err
		}
		warnOfUnitVariables(cmd)
		if giveUpAfter < 0 {
			return errors.New("--give-up-after is negative: write 0 to never give up")
		}
		if noWait {
			cfg.Shipper.Keep = 0
		}
		if archive == "" {
			err = becomeLogOwner(cfg.DataDir)
		} else if _, err = os.Stat(archive); err != nil {
			err = fmt.Errorf("--archive names no folder: %w", err)
		} else {
			err = becomeOwner(filepath.Join(archive, "_collectord"), archive)
		}
		if err != nil {
			return err
		}
		if archive == "" {
			if _, err := inspect(cfg.DataDir); err != nil {
				return err // no log: don't create one
			}
		}
		daemonLog, err := newDaemonLogger(cfg.Log, standardError)
		if err != nil {
			return err
		}
		debug.SetMemoryLimit(shipMemoryLimit)
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		bar := newProgress(cmd.ErrOrStderr())
		var result outcome
		if archive != "" {
			result, err = shipArchive(ctx, cfg, daemonLog.Logger, archive, giveUpAfter, bar)
		} else {
			result, err = shipEverything(ctx, cfg, daemonLog.Logger, giveUpAfter, bar)
		}
		bar.clear()
		daemonLog.close() // the log lines come before the result
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(result)
		} else {
			_, err = io.WriteString(cmd.OutOrStdout(), result.text())
		}
		if err == nil && !result.done() {
			return notRightf("not everything is shipped: %s", result.remaining())
		}
		return err
	}
	return c
}

// shipResult is the result of ship for the log.
type shipResult struct {
	Done        bool   `json:"done"`
	Destination string `json:"destination"`
	Folder      bool   `json:"destination_is_a_folder"`
	Records     uint64 `json:"records"`
	Objects     uint64 `json:"objects"`

	LeftSegments    int      `json:"left_segments"`
	LeftRecords     uint64   `json:"left_records"`
	LeftKept        int      `json:"left_kept"` // shipped segments, not checked again after shipper.keep
	Vanished        uint64   `json:"vanished"`  // objects that the storage confirmed and has permanently lost
	LeftNotes       int      `json:"left_loss_notes"`
	LeftUnread      int      `json:"left_unread"`    // ranges that the disk did not return
	Left            []string `json:"left,omitempty"` // names of segments, at most 10
	QuarantineBytes int64    `json:"quarantine_bytes"`
	PutAside        int      `json:"put_aside"`         // things in the quarantine, or left in place
	Stopped         string   `json:"stopped,omitempty"` // why ship stopped early

	defaultFolder string // the destination, if it is the default; or ""
}

func (r *shipResult) done() bool { return r.Done }

func (r *shipResult) text() string {
	var b strings.Builder
	writef(&b, "shipped %s in %s to %s\n", plural(int(r.Records), "record"), plural(int(r.Objects), "object"), r.Destination)
	if r.Folder {
		b.WriteString("the destination is a folder: if it is on this host, its objects go with the host\n")
	}
	if r.defaultFolder != "" {
		writef(&b, "it is the default: if the daemon has another destination, bring the objects there (collectord ship --archive %s --config FILE, with the daemon's file)\n", r.defaultFolder)
	}
	if r.Vanished > 0 {
		writef(&b, "vanished: %s that the storage had confirmed; the log above names them (objects younger than shipper.keep must not be deleted, moved or changed)\n", plural(int(r.Vanished), "object"))
	}
	if r.PutAside > 0 {
		writef(&b, "put aside: %s that can't be read, with %d bytes in wal/quarantine: collectord wal ls lists them, and collectord wal export prints what can be saved\n", plural(r.PutAside, "thing"), r.QuarantineBytes)
	}
	return b.String()
}

func (r *shipResult) remaining() string {
	var parts []string
	if r.LeftSegments > 0 {
		parts = append(parts, fmt.Sprintf("%s with %s (%s)", plural(r.LeftSegments, "segment"), plural(int(r.LeftRecords), "record"), strings.Join(r.Left, ", ")))
	}
	if r.LeftKept > 0 {
		parts = append(parts, fmt.Sprintf("%s that the storage has confirmed, but that were not checked once more (run this again, or with --no-wait)", plural(r.LeftKept, "segment")))
	}
	if r.LeftNotes > 0 {
		parts = append(parts, plural(r.LeftNotes, "loss note"))
	}
	if r.LeftUnread > 0 {
		parts = append(parts, plural(r.LeftUnread, "range")+" that can't be read (see to the disk, and to the owner and mode of the files, and run this again)")
	}
	text := strings.Join(parts, " and ") + " left"
	if r.Stopped != "" {
		text += "; " + r.Stopped
	}
	return text
}

// shipEverything opens the log, which seals the segments that a crash or a stop left
// open. It ships until nothing is left, ctx ends, or attempts have failed for
// giveUpAfter.
func shipEverything(ctx context.Context, cfg *config.Config, logger *slog.Logger, giveUpAfter time.Duration, bar *progress) (result *shipResult, err error) {
	o := walOptions(cfg, logger)
	o.MaxBytes, o.WhenFull = math.MaxInt64, wal.Reject // ship must not evict anything
	log, err := wal.Open(cfg.DataDir, o)
	if err != nil {
		return nil, withInUseAdvice(err, "the daemon ships by itself; to ship all that is left and take this host out of service, stop it first (systemctl disable --now collectord)")
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := awaitStart(ctx, log, giveUpAfter); err != nil {
		return nil, err
	}
	store, err := openStore(cfg, log, logger)
	if err != nil {
		return nil, err
	}
	options := shipperOptions(cfg, logger)
	limits := &options.Limits
	limits.Heartbeat = 0 // one heartbeat is written at the end
	limits.RetryMin = min(limits.RetryMin, shipRetryMax)
	limits.RetryMax = min(limits.RetryMax, shipRetryMax)
	limits.RetryMaxPermanent = min(limits.RetryMaxPermanent, shipRetryMax)
	ship, err := shipper.New(log, store, options)
	if err != nil {
		return nil, err
	}
	result = &shipResult{Destination: store.String(), Folder: strings.HasPrefix(store.String(), "file://")}
	if archive := filepath.Join(cfg.DataDir, "archive"); isSameFolder(cfg, archive) {
		result.defaultFolder = archive
	}

	shipCtx, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { defer close(ended); ship.Run(shipCtx) }()
	if limits.Keep > 0 {
		logger.Info("shipping, then waiting for shipper.keep and checking that the storage still has what it confirmed (--no-wait skips this)", "keep", limits.Keep.String())
	}
	result.Stopped = watchShipping(ctx, log, ship, giveUpAfter, bar)
	stopShipping()
	<-ended

	result.count(log, ship.Stats())
	if cfg.Shipper.Heartbeat > 0 {
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), lastHeartbeatTimeout)
		defer stop()
		ship.WriteHeartbeat(last, result.Done)
	}
	if look, err := wal.Inspect(cfg.DataDir); err == nil { // the list of the log may be a second old
		aside, _ := look.PutAside() // what can't be listed is not counted
		result.PutAside = len(aside)
	}
	warnOfArchive(ctx, cfg, logger)
	result.QuarantineBytes = dirBytes(filepath.Join(cfg.DataDir, "wal", "quarantine"))
	return result, nil
}

// count sets what was shipped and what is left.
func (r *shipResult) count(log *wal.Log, shipped shipper.Stats) {
	r.Records, r.Objects, r.Vanished = log.Ledger().Shipped, shipped.Objects, shipped.Vanished
	segments, _ := log.Sealed()
	for i, s := range segments {
		r.LeftRecords += uint64(s.Count())
		if i < 10 {
			r.Left = append(r.Left, s.String())
		}
	}
	stats := log.Stats()
	r.LeftSegments, r.LeftNotes, r.LeftKept, r.LeftUnread = len(segments), stats.LossNotes, stats.KeptSegments, len(log.Unread())
	r.Done = r.LeftSegments == 0 && r.LeftNotes == 0 && r.LeftUnread == 0 && r.LeftKept == 0 && r.Vanished == 0
}

// awaitStart waits up to giveUpAfter until a failing disk lets the log start.
func awaitStart(ctx context.Context, log *wal.Log, giveUpAfter time.Duration) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for began := time.Now(); !log.Started(); {
		if giveUpAfter > 0 && time.Since(began) > giveUpAfter {
			return fmt.Errorf("the log can't be started: %w", log.Full())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("interrupted: the log can't be started: %w", log.Full())
		case <-poll.C:
		}
	}
	return nil
}

// watchShipping waits until nothing is left that can be shipped, and returns "".
// Otherwise it returns why it stopped.
func watchShipping(ctx context.Context, log *wal.Log, ship *shipper.Shipper, giveUpAfter time.Duration, bar *progress) (why string) {
	type mark struct {
		objects, salvaged, vanished uint64
		segments, notes, kept       int
	}
	var last mark
	var total int64
	failed, since := uint64(0), time.Now()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		stats := log.Stats() // before the list: lost segments move from the kept ones to the sealed ones
		segments, _ := log.Sealed()
		st, notes := ship.Stats(), stats.LossNotes
		if len(segments) <= st.Foreign && st.InFlight == 0 && notes == 0 && stats.KeptSegments == 0 && log.Stats().KeptSegments == 0 { // read again: a segment may have become kept
			if st.Foreign > 0 {
				return "they are of a later version: install that version to ship them"
			}
			return ""
		}
		var left int64
		for _, s := range segments {
			left += s.Bytes()
		}
		total = max(total, left)
		bar.set(total-left, total)
		var failures uint64
		for _, n := range st.Failures {
			failures += n
		}
		if now := (mark{st.Objects, st.Salvaged, st.Vanished, len(segments), notes, stats.KeptSegments}); now != last {
			last, failed, since = now, failures, time.Now()
		}
		if failures == failed { // no failure, such as while it waits for the check after shipper.keep
			since = time.Now()
		}
		if giveUpAfter > 0 && failures > failed && time.Since(since) > giveUpAfter {
			return fmt.Sprintf("nothing could be shipped for %v: the log above says why", giveUpAfter)
		}
		select {
		case <-ctx.Done():
			return "interrupted"
		case <-poll.C:
		}
	}
}

func dirBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what can't be read is not counted
		}
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
