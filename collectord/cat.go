package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"collectord/config"
	"collectord/shipper"
)

func catCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cat",
		Short: "Print the records in the bucket, one JSON object a line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := settings(cmd)
			if err != nil {
				return err
			}
			store, err := openStore(cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			return errors.Join(cat(cmd.Context(), store, out), out.Flush())
		},
	}
	config.AddFlags(c.Flags())
	return c
}

// cat writes the lines of all objects, in the order of their keys: by hour, then
// by node and sequence number.
func cat(ctx context.Context, store shipper.Store, out io.Writer) error {
	var keys []string
	for key, err := range store.List(ctx, "dt=") {
		if err != nil {
			return err
		}
		if strings.HasSuffix(key, ".ndjson.zst") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := catObject(ctx, store, key, out); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func catObject(ctx context.Context, store shipper.Store, key string, out io.Writer) error {
	body, err := store.Open(ctx, key)
	if err != nil {
		return err
	}
	defer body.Close()
	lines, err := shipper.NewObjectReader(body)
	if err != nil {
		return err
	}
	defer lines.Close()
	for {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
}
