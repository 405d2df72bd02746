package main

import (
	"context"
	"encoding/json"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"collectord/collectord/send"
)

func sendCommand() *cobra.Command {
	var o send.Options
	c := &cobra.Command{
		Use:   "send [URL]",
		Short: "Send usages, over HTTP or UDP: a smoke test, an import, a load",
		Args:  cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.Int64Var(&o.Count, "count", 0, "how many usages (default: one; with --payload, each once; with --duration, no limit)")
	f.DurationVar(&o.Duration, "duration", 0, "how long")
	f.Float64Var(&o.Rate, "rate", 0, "usages a second (default: as fast as it goes)")
	f.IntVar(&o.Connections, "connections", 1, "connections, or sockets for UDP")
	f.IntVar(&o.Batch, "batch", 1, "usages in a request or datagram")
	f.IntVar(&o.Prepared, "prepare", 0, "make so many requests or datagrams ahead, and send them over and over")
	f.Uint64Var(&o.Seed, "seed", 0, "")
	asJSON := f.Bool("json", false, "print the summary as JSON")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			o.Target = args[0]
		}
		o.From = time.Now()
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal ends the process
		s, err := send.Run(ctx, o)
		if err != nil {
			return err
		}
		_ = asJSON
		e := json.NewEncoder(cmd.OutOrStdout())
		return e.Encode(s)
	}
	return c
}
