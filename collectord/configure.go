package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"collectord/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, print or explain the configuration", GroupID: groupDaemon}
	config.AddFlags(c.PersistentFlags())
	c.AddCommand(
		configCheckCommand(),
		printCommand(),
		&cobra.Command{
			Use:        "example",
			SuggestFor: []string{"init", "new", "edit", "default", "defaults", "explain", "describe", "docs"},
			Short:      "Print a configuration file that explains every key, and sets the keys given as flags",
			RunE: func(cmd *cobra.Command, _ []string) error {
				text, err := config.Example(cmd.Flags())
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			},
		},
		&cobra.Command{
			Use:   "man",
			Short: "Print the manual page with every key, collectord.yaml(5)",
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(config.Man())
				return err
			},
		},
	)
	return c
}

func configCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:        "check",
		SuggestFor: []string{"validate", "test"},
		Short:      "Report every mistake in the configuration, and in the files that it names",
		Long: `Report every mistake in the configuration, and in the files and directories that it names, as a start of the daemon
does. The command changes nothing, and may be used while the daemon is running.

Run as root, it checks with the rights of the daemon's user: the owner of data_dir, or the user that the packages create.
It can't check what a systemd unit provides, such as credentials: systemctl reload collectord checks that.

The command exits with 2 if a start would refuse the configuration. Warnings are about what a start accepts: settings
that are seldom intended, and directories that can't be used.`,
	}
	asUser := c.Flags().String("user", "", "check as this user, by name or number; for root only")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		checked := make(chan error, 1)
		go func() { checked <- checkConfiguration(cmd, *asUser) }()
		select {
		case err := <-checked:
			return err
		case <-time.After(checkTimeout):
			return fmt.Errorf("the check did not end within %v: the disk of the configuration, or of a file that it names, does not answer", checkTimeout)
		}
	}
	return c
}

// checkTimeout is the time limit of config check. A file may be on a disk that hangs.
const checkTimeout = 3 * diskTimeout

func checkConfiguration(cmd *cobra.Command, asUser string) error {
	warnOfUnitVariables(cmd)
	why, err := becomeDaemonUser(source(cmd), asUser)
	if err != nil {
		return err
	}
	if why != "" {
		writef(cmd.ErrOrStderr(), "checked as %s\n", why)
	}
	p, err := newPlan(source(cmd))
	if err != nil {
		return err
	}
	for _, w := range p.warnings {
		writef(cmd.ErrOrStderr(), "warning: %s\n", w)
	}
	text := "the configuration is valid"
	if source(cmd).File() == "" {
		text += ", but no file was read: " + config.DefaultPath + " does not exist (name another with --config)"
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text+"\n")
	return err
}

func printCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:        "print",
		SuggestFor: []string{"show", "dump", "get"},
		Short:      "Print the settings in effect, and where each comes from",
		Long: `Print the settings in effect as a configuration file. A comment names the origin of each: a line of the file, a
variable of the environment, a flag, or the default. Node, data_dir and destination are printed as run would use them.`,
		Example: `  collectord config print
  collectord config print --json | jq -r '."shipper.destination".value'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := config.LoadEffective(source(cmd))
			if err != nil {
				return err
			}
			text := e.YAML()
			if asJSON {
				if text, err = e.JSON(); err != nil {
					return err
				}
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object with a member for each key, for programs")
	return c
}
