package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"collectord/wal"
)

func walAcknowledgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "acknowledge [NAME...]",
		Short: "Stop reporting what was put aside, once you have seen it; deletes nothing",
		Long: `Acknowledge what was put aside, once you have seen it. Within a second, and without a restart, /readyz?verbose no longer
lists it, and collectord_wal_put_aside no longer counts it. Nothing is deleted: a file or directory in the quarantine is
moved to wal/quarantine/acknowledged, with its report. One that was left in its place stays there, and is marked.

NAME is a path that /readyz?verbose prints, or a name in the quarantine. Without a name, everything in the quarantine is
acknowledged, and everything in the log directory that is not part of a log. A segment that can't be read is not
acknowledged: see to its owner, its mode or the disk, and restart the daemon, which reads the segment again.

It may be used while the daemon is running.`,
		Example:           "  collectord wal acknowledge",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeAside,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := settings(cmd, "data_dir")
			if err != nil {
				return err
			}
			if err := becomeLogOwner(cfg.DataDir); err != nil {
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
