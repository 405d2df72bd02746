package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"collectord/wal"
)

func walAcknowledgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "acknowledge [NAME...]",
		Short: "Take what was put aside off /readyz?verbose, the status and the metric; deletes nothing",
		Long: `Acknowledge what was put aside, once you have seen it: it is no longer listed by /readyz?verbose, nor counted by
collectord_wal_put_aside, within a second and without a restart. Nothing is deleted: what is in the quarantine is moved
to wal/quarantine/acknowledged, with its report; what was left in its place stays there, and is marked.

NAME is a path as /readyz?verbose has it, or the name of something in the quarantine. Without one, all of the
quarantine is acknowledged, and what is in the log directory and not part of a log; but not a segment that can't be
read: see to its owner, its mode or the disk, and restart the daemon, which reads it again.

It may be used while the daemon is running.`,
		Example:           "  collectord wal acknowledge",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeAside,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := settings(cmd, "data_dir")
			if err != nil {
				return err
			}
			if err := becomeOwner(cfg.DataDir); err != nil {
				return err
			}
			done, err := wal.Acknowledge(cfg.DataDir, args...)
			for _, path := range done {
				writef(cmd.OutOrStdout(), "acknowledged %s\n", path)
			}
			if err == nil && len(done) == 0 {
				writef(cmd.OutOrStdout(), "nothing is put aside\n")
			}
			return err
		},
	}
}

// completeAside completes the name of something put aside.
func completeAside(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if cfg, err := settings(cmd, "data_dir"); err == nil {
		if log, err := wal.Inspect(cfg.DataDir); err == nil {
			all, _ := log.PutAside() // without the list there are no completions
			for _, one := range all {
				names = append(names, filepath.Base(one.Path))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
