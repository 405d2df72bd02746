package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"collectord/config"
)

// manCommand prints the manual page, for the build of the packages.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Print the manual page of the commands, collectord(1)",
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), manual(cmd.Root()))
			return err
		},
	}
}

// manual returns the text of collectord(1), generated from the commands, in roff
// (groff_man(7)).
func manual(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, `.\" Made from the commands by: collectord man
.TH COLLECTORD 1 "" collectord ""
.SH NAME
collectord \- %s
.SH SYNOPSIS
.B collectord
.I command
.RI [ flags ]
.SH DESCRIPTION
.B collectord run
is a daemon that takes usages, which are JSON objects, over HTTP and UDP, keeps them in a write\-ahead log, and ships
them as compressed NDJSON to S3\-compatible storage or a folder. The other commands look at its log, its objects and
its configuration.
.SH COMMANDS
`, roff(lowerFirst(root.Short)))
	describeCommands(&b, root)
	b.WriteString(".SH FLAGS\nThese are keys of the configuration. They override the file and the environment; see\n.BR collectord.yaml (5).\n")
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { describeFlag(&b, f) })
	settings := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(settings)
	settings.VisitAll(func(f *pflag.Flag) { describeFlag(&b, f) })
	fmt.Fprintf(&b, `.SH EXIT STATUS
.TP
.B 0
Fine.
.TP
.B %d
An error, which is printed on standard error.
.TP
.B %d
A check found something wrong.
.TP
.B %d
.B run
was given a configuration with a mistake. Another try would end the same way.
.SH SIGNALS
.TP
.B SIGTERM, SIGINT
Stop, and lose nothing that was acknowledged. A second signal ends the process at once.
.TP
.B SIGHUP
Read the configuration again: all of it is put into effect, or, if there is a mistake, nothing.
.TP
.B SIGUSR1
Seal the active segment, so that everything received so far is shipped at once.
.SH FILES
.TP
.I %s
The configuration. A package installs it with every key, its default and its meaning.
.TP
.I /var/lib/collectord
Where the packages keep the log
.RB ( data_dir ).
.TP
.I /usr/share/doc/collectord
The documentation: README.md, and a page for each subject in docs.
.SH EXAMPLES
.nf
%s.fi
.SH SEE ALSO
.BR collectord.yaml (5),
.BR systemctl (1),
.BR journalctl (1)
`, exitError, exitNotRight, exitBadConfig, roff(config.DefaultPath), roffLines(root.Example))
	return b.String()
}

// describeCommands writes the runnable commands below c, with their own flags.
func describeCommands(b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if sub.HasSubCommands() {
			describeCommands(b, sub)
			continue
		}
		name, arguments, _ := strings.Cut(sub.UseLine(), sub.CommandPath())
		fmt.Fprintf(b, ".TP\n.B %s\n", roff(name+sub.CommandPath()+strings.TrimSuffix(arguments, " [flags]")))
		text := sub.Long
		if text == "" {
			text = sub.Short
		}
		fmt.Fprintf(b, "%s\n", roffText(strings.TrimSuffix(text, ".")+"."))
		own, common := flagsOf(sub)
		if len(own) > 0 {
			b.WriteString(".RS\n")
			for _, f := range own {
				describeFlag(b, f)
			}
			b.WriteString(".RE\n")
		}
		if common != "" {
			fmt.Fprintf(b, ".IP\nIt also takes %s below FLAGS.\n", roff(common))
		}
		if sub.HasExample() {
			b.WriteString(".IP\nExamples:\n" + roffExample(sub.Example))
		}
	}
}

// flagsOf returns the flags of a command, and a list of those that have the same
// meaning as a key of the configuration.
func flagsOf(c *cobra.Command) (commandFlags []*pflag.Flag, common string) {
	settings := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(settings)
	missing := 0
	settings.VisitAll(func(*pflag.Flag) { missing++ })
	var names []string
	c.InheritedFlags() // merges them into Flags
	c.Flags().VisitAll(func(f *pflag.Flag) {
		switch setting := settings.Lookup(f.Name); {
		case setting != nil && setting.Usage == f.Usage:
			names = append(names, "--"+f.Name)
			missing--
		case f.Name != "help" && f.Name != "config" && !f.Hidden:
			commandFlags = append(commandFlags, f)
		}
	})
	if missing == 0 {
		return commandFlags, "all flags"
	}
	return commandFlags, strings.Join(names, ", ")
}

func describeFlag(b *strings.Builder, f *pflag.Flag) {
	argument, usage := pflag.UnquoteUsage(f)
	fmt.Fprintf(b, ".TP\n.B %s", roff("--"+f.Name))
	if argument != "" {
		fmt.Fprintf(b, "\\fR=\\fI%s\\fR", roff(argument))
	}
	fmt.Fprintf(b, "\n%s", roffText(usage))
	if !slices.Contains([]string{"", "false", "[]", "0", "0s"}, f.DefValue) {
		fmt.Fprintf(b, "; default %s", roff(f.DefValue))
	}
	b.WriteString(".\n")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
