package main

import (
	"io"

	"github.com/spf13/cobra"

	"collectord/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check, print or explain the configuration", GroupID: groupDaemon}
	config.AddFlags(c.PersistentFlags())
	c.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say everything that is wrong with the configuration",
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
		&cobra.Command{
			Use:   "print",
			Short: "Print the settings in effect, from file, environment, flags and defaults",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := settings(cmd)
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(c.Print())
				return err
			},
		},
		&cobra.Command{
			Use:   "example",
			Short: "Print a configuration file that explains every key, and sets those given as flags",
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
