package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"collectord/config"
	"collectord/shipper/bucket"
)

// destinationsHelp explains the destination arguments in help texts.
const destinationsHelp = `A destination is s3://bucket/prefix or file:///path. A * in the path stands for any characters but /: s3://usages/*/ is
for hosts that each have a prefix of their own. The default is shipper.destination.`

// bucketKeys lists the configuration keys of commands that read destinations. It
// includes data_dir, because shipper.destination may be below that.
var bucketKeys = []string{"data_dir", "shipper.destination", "shipper.s3"} //nolint:gochecknoglobals // a constant

// addStorageFlags defines the flags that a command needs to read the bucket.
func addStorageFlags(flags *pflag.FlagSet) {
	config.AddFlags(flags, "node", "data_dir", "shipper.destination", "shipper.s3.endpoint", "shipper.s3.region")
}

// storesToRead opens the named destinations, or the configured one if none is named. It
// keeps their order and opens duplicates once. The error joins the
// errors of destinations that can't be opened. stores contains such destinations too, as
// bucket.Unopened.
func storesToRead(ctx context.Context, cfg *config.Config, named []string) (stores []bucket.Store, failed error) {
	if len(named) == 0 {
		store, err := openStoreToRead(cfg)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w (nothing was shipped there: name another destination, or the daemon's configuration with --config)", err)
		}
		return []bucket.Store{store}, err
	}
	var urls []string
	add := func(url string, store bucket.Store, err error) {
		if err != nil {
			if !strings.Contains(url, ":") {
				err = fmt.Errorf("%w (name a bucket as s3://%s, and a host with --node)", err, url)
			}
			store, failed = bucket.Unopened(url, err), errors.Join(failed, err)
		}
		urls, stores = append(urls, url), append(stores, store)
	}
	for _, name := range named {
		d := destinationToRead(cfg)
		d.URL = name
		all, err := bucket.Expand(ctx, d)
		if err != nil {
			add(name, nil, err)
		}
		for _, one := range all {
			if !slices.Contains(urls, one.URL) {
				store, err := bucket.OpenToRead(one)
				add(one.URL, store, err)
			}
		}
	}
	return stores, failed
}

// storesToAudit opens destinations as storesToRead does. If there are several, one that
// can't be opened is no error here, so that the report covers the others.
func storesToAudit(ctx context.Context, cfg *config.Config, named []string) ([]bucket.Store, error) {
	stores, err := storesToRead(ctx, cfg, named)
	switch {
	case len(stores) > 1 && ctx.Err() == nil:
		return stores, nil
	case errors.Is(err, bucket.ErrNoMatch):
		return nil, notRightf("nothing found: %v", err)
	}
	return stores, err
}

// noVerdictError returns the error for a run in which some destinations could not be read.
func noVerdictError(failed, of int, first, reason string) error {
	return fmt.Errorf("no verdict: %d of %d destinations can't be read; the first: %s: %s", failed, of, first, reason)
}

func storeNames(stores []bucket.Store) (names []string) {
	for _, s := range stores {
		names = append(names, s.String())
	}
	return names
}
