package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"collectord/config"
)

// version is set when a release is built.
var version = "devel"

// Exit statuses. badConfig is EX_CONFIG of sysexits(3): a service manager need
// not try again.
const (
	exitError     = 1
	exitNotRight  = 2 // the thing that was checked
	exitBadConfig = 78
)

func main() { os.Exit(execute(os.Args[1:])) }

func execute(args []string) int {
	root := &cobra.Command{
		Use:           "collectord",
		Short:         "Collect usages on an edge host and ship them to object storage",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().String("config", "", "configuration file (default "+config.DefaultPath+")")
	root.AddCommand(runCommand(), configCommand(), catCommand(), walCommand(), versionCommand())
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "collectord: %v\n", err)
	if errors.Is(err, errNotRight) {
		return exitNotRight
	}
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		return exitBadConfig
	}
	return exitError
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			goVersion := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "collectord %s (%s)\n", version, goVersion)
			return err
		},
	}
}

// settings loads the configuration that the command's flags name.
func settings(cmd *cobra.Command) (*config.Config, []string, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, nil, err
	}
	return config.Load(config.Source{Path: path, Flags: cmd.Flags()})
}
