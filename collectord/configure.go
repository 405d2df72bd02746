package main

import (
	"io"

	"github.com/spf13/cobra"

	"collectord/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, print or explain the configuration"}
	config.AddFlags(c.PersistentFlags())
	c.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say everything that is wrong with the configuration",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, warnings, err := settings(cmd)
				if err == nil {
					var more []string
					_, more, err = readPolicy(cfg)
					warnings = append(warnings, more...)
				}
				for _, w := range warnings {
					writef(cmd.ErrOrStderr(), "warning: %s\n", w)
				}
				if err != nil {
					return err
				}
				_, err = io.WriteString(cmd.OutOrStdout(), "the configuration is valid\n")
				return err
			},
		},
		printCommand(),
		&cobra.Command{
			Use:   "example",
			Short: "Print a configuration file that explains every key, and sets those given as flags",
			Args:  cobra.NoArgs,
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
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := cmd.OutOrStdout().Write(config.Man())
				return err
			},
		},
	)
	return c
}

func printCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "print",
		Short: "Print the settings in effect, and where each comes from",
		Long: `Print the settings in effect as a configuration file. A comment behind each says where it comes from: a line of the
file, a variable of the environment, a flag, or the default. Node, data_dir and destination are what run would use.`,
		Example: `  collectord config print
  collectord config print --json | jq -r '."shipper.destination".value'`,
		Args: cobra.NoArgs,
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
