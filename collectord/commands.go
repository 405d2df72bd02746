package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"collectord/config"
)

// Groups of commands in the output of collectord --help.
const (
	groupDaemon = "daemon"
	groupHost   = "host"
	groupBucket = "bucket"
	groupClient = "client"
)

const firstSteps = `  # Start the daemon with data and objects in ./var, send one usage, or a file with one a line, and read them back
  # once they are shipped: after 5 minutes (wal.seal_small_after), or when the daemon stops
  collectord run
  collectord send
  collectord send --payload usages.ndjson
  collectord cat --from 10m

  # Put it into service: write a configuration, and check it
  collectord config example >collectord.yaml
  collectord config check --config collectord.yaml

  # See whether the daemon is fine: what fails, since when, and what waits to be shipped
  collectord status

  # See what is wrong with this host, its configuration or its storage, and what to do
  collectord doctor

  # See what was logged (without systemd: on standard error), and what waits
  journalctl --unit collectord --priority warning
  collectord wal ls

  # Find damaged segments on this host, and in the bucket
  collectord wal verify
  collectord audit --deep

  # Take this host out of service: stop the daemon, and upload all that is left
  systemctl disable --now collectord
  collectord ship`

// helpWidth is the column at which help texts of flags wrap.
const helpWidth = "100"

// prepareRoot adds to a command tree what all commands share: groups, wrapped usage texts,
// errors with suggestions, and completion.
func prepareRoot(root *cobra.Command) *cobra.Command {
	root.AddGroup(
		&cobra.Group{ID: groupDaemon, Title: "The daemon:"},
		&cobra.Group{ID: groupHost, Title: "What is on this host:"},
		&cobra.Group{ID: groupBucket, Title: "What is in the bucket:"},
		&cobra.Group{ID: groupClient, Title: "A client:"},
	)
	root.SetUsageTemplate(strings.NewReplacer(
		".FlagUsages", ".FlagUsagesWrapped "+helpWidth,
		"{{if .Runnable}}", "{{if not .HasAvailableSubCommands}}",
		"Additional Commands:", "More:",
	).Replace(root.UsageTemplate()))
	root.SetFlagErrorFunc(flagError)
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if !cmd.HasSubCommands() || unknownCommand(cmd, cmd.Flags().Args()) == nil {
			help(cmd, args)
		}
	})
	root.PersistentPreRunE = rejectWrongConfig
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	prepareCommand(root)
	return root
}

// prepareCommand adds argument checks and completion to c and all its subcommands.
func prepareCommand(c *cobra.Command) {
	switch {
	case c.HasSubCommands():
		c.Args = unknownCommand
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	case c.Args == nil:
		c.Args = noArgs
	}
	completeValues(c)
	for _, sub := range c.Commands() {
		prepareCommand(sub)
	}
}

// unknownCommand returns an error for an argument that is not a subcommand of cmd.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if advice := withoutCommand(args[0]); advice != "" {
		return fmt.Errorf("%s has no command %q: %s", cmd.CommandPath(), args[0], advice)
	}
	names := suggestions(cmd, args[0])
	if advice := cmd.Annotations[adviceOnOtherWords]; len(names) == 0 && advice != "" {
		return fmt.Errorf("%s has no command %q: %s (see %[1]s --help)", cmd.CommandPath(), args[0], advice)
	}
	if len(names) == 0 {
		names = suggestions(cmd.Root(), args[0])
	}
	return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], suggestionText(cmd, names))
}

// adviceOnOtherWords is the annotation of a command with few subcommands: what to do instead of
// others.
const adviceOnOtherWords = "advice"

// withoutCommand returns how to do what a word asks for, if collectord has no command for it.
func withoutCommand(word string) string {
	switch word {
	case "stop", "kill":
		return "use systemctl stop collectord, or send the daemon SIGTERM (see collectord run --help)"
	case "restart":
		return "use systemctl restart collectord"
	case "reload":
		return "use systemctl reload collectord, or send the daemon SIGHUP (see collectord run --help)"
	case "flush", "seal":
		return "send the daemon SIGUSR1: it seals and ships the active segment (see collectord run --help)"
	case "log", "logs", "journal":
		return "use journalctl --unit collectord; collectord wal shows the log of usages"
	}
	return ""
}

// suggestions returns the commands that a misspelled name may mean. It prefers direct
// subcommands of c to deeper ones.
func suggestions(c *cobra.Command, name string) (paths []string) {
	c.SuggestionsMinimumDistance = maxEdits(name)
	for _, found := range c.SuggestionsFor(name) {
		if path := c.CommandPath() + " " + found; !slices.Contains(paths, path) { // a name may be both similar and another word
			paths = append(paths, path)
		}
	}
	if len(paths) > 0 {
		return paths
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			paths = append(paths, suggestions(sub, name)...)
		}
	}
	return paths
}

// maxEdits returns in how many letters a suggestion may differ from a misspelled name. With
// two, any name of a letter or two would resemble every short one.
func maxEdits(name string) int { return min(2, max(1, len(name)-1)) }

func suggestionText(cmd *cobra.Command, names []string) string {
	if len(names) > 0 {
		return fmt.Sprintf(": did you mean %s? (see %s --help)", strings.Join(names, " or "), cmd.CommandPath())
	}
	return fmt.Sprintf(": see %s --help", cmd.CommandPath())
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if info, err := os.Stat(args[0]); err == nil && info.Mode().IsRegular() && cmd.Flags().Lookup("config") != nil {
		hint = " (a configuration is named with --config)"
	}
	return fmt.Errorf("%s takes flags only, not %q%s: see %[1]s --help", cmd.CommandPath(), args[0], hint)
}

// requireArgs returns a check that a command gets minArgs to maxArgs arguments.
func requireArgs(minArgs, maxArgs int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < minArgs || len(args) > maxArgs {
			return fmt.Errorf("%s takes %s, and was given %s: see %[1]s --help", cmd.CommandPath(), what, plural(len(args), "argument"))
		}
		return nil
	}
}

// flagError adds suggestions to an error about a flag, as unknownCommand does for
// commands.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && len(cmd.Flags().Args()) > 0 { // the flags belong to the unknown command
		return unknownCommand(cmd, cmd.Flags().Args())
	}
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s: %q is not %s%s", invalid.GetFlag().Name, invalid.GetValue(), valueKind(invalid.GetFlag()), suggestionText(cmd, nil))
	case !errors.As(err, &unknown):
		return fmt.Errorf("%w%s", err, suggestionText(cmd, nil))
	case unknown.GetSpecifiedShortnames() != "": // a single letter resembles too many names
		return fmt.Errorf("%s has no flag -%s%s", cmd.CommandPath(), unknown.GetSpecifiedName(), suggestionText(cmd, synonyms(cmd, unknown.GetSpecifiedName())))
	}
	typed := strings.ReplaceAll(unknown.GetSpecifiedName(), "_", "-")
	names := synonyms(cmd, typed)
	if len(names) == 0 {
		names = similarFlags(cmd, typed)
	}
	return fmt.Errorf("%s has no flag --%s%s", cmd.CommandPath(), unknown.GetSpecifiedName(), suggestionText(cmd, names))
}

// synonyms returns the flags of cmd for which other programs use the name typed.
func synonyms(cmd *cobra.Command, typed string) (names []string) {
	var known []string
	switch typed {
	case "c":
		known = []string{"config"}
	case "f", "file", "input", "data":
		known = []string{"payload"}
	case "n", "number":
		known = []string{"count"}
	case "rps", "qps":
		known = []string{"rate"}
	case "since", "after", "last", "start":
		known = []string{"from"}
	case "until", "before", "end":
		known = []string{"to"}
	case "host", "hostname", "name":
		known = []string{"node"}
	case "port", "address", "bind":
		known = []string{"http-listen"}
	case "debug", "verbose", "loglevel":
		known = []string{"log-level"}
	case "bucket", "dest", "s3":
		known = []string{"destination"}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && (slices.Contains(known, f.Name) || known == nil && strings.HasSuffix(f.Name, "-"+typed)) { // as in --endpoint for --s3-endpoint
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// similarFlags returns the flags of cmd that a misspelled name may mean.
func similarFlags(cmd *cobra.Command, typed string) (names []string) {
	flags := &cobra.Command{SuggestionsMinimumDistance: maxEdits(typed)}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}, Hidden: f.Hidden})
	})
	for _, name := range flags.SuggestionsFor(typed) {
		names = append(names, "--"+name)
	}
	return names
}

// valueKind describes the values that a flag accepts.
func valueKind(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "duration":
		return "a duration such as 500ms, 5s, 2m or 1h"
	case "bool":
		return "true or false"
	case "float64":
		return "a number"
	}
	return "a whole number, or is out of range"
}

// rejectWrongConfig rejects an empty --config, which often comes from an unset variable:
// without the check, the daemon would use the defaults. It also rejects two files, of which
// only the last would be read.
func rejectWrongConfig(cmd *cobra.Command, _ []string) error {
	f := cmd.Flags().Lookup("config")
	if f == nil || !f.Changed {
		return nil
	}
	reason := ""
	if f.Value.String() == "" {
		reason = "names no file: name one, or leave the flag out"
	}
	if once, ok := f.Value.(*configFlag); ok && once.times > 1 {
		reason = "is given twice: a configuration is one file"
	}
	if reason == "" {
		return nil
	}
	return config.Mistakes{{Key: "configuration", Origin: "--config", Reason: reason}}
}

// configFlag is the value of --config. It counts how often the flag is given.
type configFlag struct {
	path  string
	times int
}

func (f *configFlag) String() string { return f.path }
func (f *configFlag) Type() string   { return "string" }

func (f *configFlag) Set(path string) error {
	f.path = path
	f.times++
	return nil
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Explain a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if target.HasSubCommands() && len(rest) > 0 {
				return unknownCommand(target, rest)
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			if target, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range target.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}
