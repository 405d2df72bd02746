package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"collectord/config"
	"collectord/shipper"
	"collectord/shipper/bucket"
)

// maxNamedObjects is the maximum number of remaining objects in a report.
const maxNamedObjects = 10

// outcome is the result of ship.
type outcome interface {
	done() bool
	text() string
	remaining() string
}

// archiveResult is the result of ship --archive.
type archiveResult struct {
	Done        bool     `json:"done"`
	Archive     string   `json:"archive"`
	Destination string   `json:"destination"`
	Records     uint64   `json:"records"` // in the objects
	Objects     int      `json:"objects"`
	Notes       int      `json:"loss_notes"`
	Left        int      `json:"left_objects"`
	LeftNames   []string `json:"left,omitempty"` // at most 10, with the reason
	Stopped     string   `json:"stopped,omitempty"`
}

func (r *archiveResult) done() bool { return r.Done }

func (r *archiveResult) text() string {
	var b strings.Builder
	writef(&b, "brought %s in %s and %s from %s to %s\n", plural(int(r.Records), "record"), plural(r.Objects, "object"), plural(r.Notes, "loss note"), r.Archive, r.Destination)
	return b.String()
}

func (r *archiveResult) remaining() string {
	text := fmt.Sprintf("%s left in %s", plural(r.Left, "object"), r.Archive)
	if r.Stopped != "" {
		text += ": " + r.Stopped
	}
	for _, name := range r.LeftNames {
		text += "; " + name
	}
	return text
}

func (r *archiveResult) addLeft(key string, err error) {
	if r.Left++; len(r.LeftNames) < maxNamedObjects {
		r.LeftNames = append(r.LeftNames, fmt.Sprintf("%s: %v", key, err))
	}
}

func folderURL(dir string) string { return (&url.URL{Scheme: "file", Path: dir}).String() }

// listObjects lists the keys in an archive folder. It stops after limit keys, or lists all
// if limit is 0.
func listObjects(ctx context.Context, dir string, limit int) (keys []string, err error) {
	if _, err := bucket.OpenToRead(bucket.Destination{URL: folderURL(dir)}); err != nil {
		return nil, err
	}
	for key, err := range shipper.CopyableKeys(ctx, dir) {
		if err != nil {
			return keys, fmt.Errorf("archive folder %s: %w", dir, err)
		}
		keys = append(keys, key)
		if limit > 0 && len(keys) >= limit {
			break
		}
	}
	return keys, nil
}

// isSameFolder reports whether dir is the configured destination folder.
func isSameFolder(cfg *config.Config, dir string) bool {
	to, err := url.Parse(cfg.Shipper.Destination)
	if err != nil || to.Scheme != "file" {
		return false
	}
	a, errA := os.Stat(dir)
	b, errB := os.Stat(to.Path)
	return errA == nil && errB == nil && os.SameFile(a, b) || filepath.Clean(to.Path) == filepath.Clean(dir)
}

// warnOfArchive logs a warning if objects remain in data_dir/archive, the default
// destination, while another destination is configured.
func warnOfArchive(ctx context.Context, cfg *config.Config, logger *slog.Logger) {
	dir := filepath.Join(cfg.DataDir, "archive")
	if isSameFolder(cfg, dir) {
		return
	}
	if left, _ := listObjects(ctx, dir, 1); len(left) > 0 { // ship --archive reports the error
		logger.Warn("objects are left in the folder of an earlier destination: no daemon ships them (collectord ship --archive "+dir+")",
			"archive", dir, "destination", cfg.Shipper.Destination)
	}
}

// shipArchive moves the objects of a folder to the destination: it uploads all, waits
// for shipper.keep, and removes those that the storage still has.
func shipArchive(ctx context.Context, cfg *config.Config, logger *slog.Logger, dir string, giveUpAfter time.Duration, bar *progress) (result *archiveResult, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if isSameFolder(cfg, dir) {
		return nil, isDestinationError(dir)
	}
	if _, err := bucket.OpenToRead(bucket.Destination{URL: folderURL(dir)}); err != nil {
		return nil, err
	}
	store, err := bucket.Open(destination(cfg, logger))
	if err != nil {
		return nil, err
	}
	archive, err := shipper.OpenArchive(dir, store)
	if err != nil {
		return nil, err
	}
	defer func() { _ = archive.Close() }()
	keys, err := listObjects(ctx, dir, 0)
	if err != nil {
		return nil, err
	}
	calls := shipper.WithArchiveOptions(ctx, cfg.Shipper.Bandwidth, cfg.Shipper.StallTimeout)
	result = &archiveResult{Archive: dir, Destination: store.String()}

	var stored []*bucket.Object
	names := map[*bucket.Object]string{} // keys in the archive
	retry := retries{logger: logger, giveUpAfter: giveUpAfter, last: time.Now()}
	for i, key := range keys {
		bar.set(int64(i), int64(len(keys)))
		var o *bucket.Object
		if err := retry.try(ctx, key, func() (err error) { o, err = archive.Copy(calls, key); return err }); err != nil {
			result.addLeft(key, err)
			if result.Stopped = retry.stopped(ctx); result.Stopped != "" {
				result.Left += len(keys) - i - 1
				break
			}
			continue
		}
		o.Body = nil
		stored, names[o] = append(stored, o), key
	}
	if keep := shipperLimits(cfg).Keep; keep > 0 && len(stored) > 0 {
		logger.Info("waiting for shipper.keep, then checking that the storage still has what it confirmed (--no-wait skips this)", "keep", keep.String())
		select {
		case <-ctx.Done():
		case <-time.After(keep):
		}
		retry.last = time.Now() // nothing was tried meanwhile
	}
	for _, o := range stored {
		key := names[o]
		err := retry.try(ctx, key, func() error { return archive.Remove(calls, key, o) })
		if errors.Is(err, shipper.ErrIsDestination) {
			return nil, fmt.Errorf("%w: %w", isDestinationError(dir), err)
		}
		if err != nil {
			result.addLeft(key, err)
			result.Stopped = retry.stopped(ctx)
			continue
		}
		if _, isNote := bucket.ParseLossKey(key); isNote {
			result.Notes++
		} else {
			result.Objects++
			result.Records += o.Records
		}
	}
	result.Done = result.Left == 0
	return result, nil
}

func isDestinationError(dir string) error {
	return fmt.Errorf("%s is the current destination: set shipper.destination to the one that is to receive the objects", dir)
}

// retries repeats failed attempts until nothing has succeeded for giveUpAfter. If
// giveUpAfter is 0, it never gives up.
type retries struct {
	logger      *slog.Logger
	giveUpAfter time.Duration
	last        time.Time // of the last success
	gaveUp      bool
}

// try calls do until it succeeds or retries gives up. It returns at once for an error
// that concerns this object alone.
func (a *retries) try(ctx context.Context, key string, do func() error) error {
	for delay := time.Second; ; delay = min(2*delay, shipRetryMax) {
		err := do()
		var failed *bucket.Error
		if err == nil {
			a.last = time.Now()
			return nil
		}
		if !errors.As(err, &failed) || failed.ThisObjectOnly || failed.Kind == bucket.TooLarge {
			return err
		}
		a.gaveUp = a.giveUpAfter > 0 && time.Since(a.last)+delay > a.giveUpAfter
		if a.gaveUp || ctx.Err() != nil {
			return err
		}
		a.logger.Warn("can't bring an object: this is tried again", "trouble", "archive", "key", key, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
	}
}

// stopped returns why no further object is tried, or "".
func (a *retries) stopped(ctx context.Context) string {
	switch {
	case ctx.Err() != nil:
		return "interrupted"
	case a.gaveUp:
		return fmt.Sprintf("nothing could be brought for %v", a.giveUpAfter)
	}
	return ""
}
