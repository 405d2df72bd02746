package main

import (
	"context"
	"slices"

	"collectord/config"
	"collectord/shipper/bucket"
)

// destinationsHelp explains the arguments of commands.
const destinationsHelp = `Destinations are s3://bucket/prefix or file:///path; a * in the path stands for any characters but /, as in
s3://usages/*/ where each host has a prefix of its own. Without any it is shipper.destination.`

// storesToRead opens the destinations that are named, or the configured one. Each is
// there once, in the order in which they are named.
func storesToRead(ctx context.Context, cfg *config.Config, named []string) (stores []bucket.Store, err error) {
	if len(named) == 0 {
		store, err := openStoreToRead(cfg)
		return []bucket.Store{store}, err
	}
	var urls []string
	for _, name := range named {
		d := destinationToRead(cfg)
		d.URL = name
		all, err := bucket.Expand(ctx, d)
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			if slices.Contains(urls, one.URL) {
				continue
			}
			store, err := bucket.OpenToRead(one)
			if err != nil {
				return nil, err
			}
			urls, stores = append(urls, one.URL), append(stores, store)
		}
	}
	return stores, nil
}

// namesOf returns the names of destinations, for people.
func namesOf(stores []bucket.Store) (names []string) {
	for _, s := range stores {
		names = append(names, s.String())
	}
	return names
}
