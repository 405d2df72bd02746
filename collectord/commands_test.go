package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// visitCommands calls visit with a command and all commands below it.
func visitCommands(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		visitCommands(sub, visit)
	}
}

func TestHelpOfEachCommandListsItsSubcommands(t *testing.T) {
	visitCommands(rootCommand(nil), func(c *cobra.Command) {
		name := c.CommandPath()
		switch err := c.ValidateArgs([]string{"verfy"}); {
		case !c.HasSubCommands():
			if c.Args == nil {
				t.Errorf("%s has no check of its arguments", name)
			}
		case err == nil:
			t.Errorf("%s accepts any word as a command", name)
		case !strings.Contains(err.Error(), " --help"):
			t.Errorf("%s: %v", name, err)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q", name, c.Short)
		}
		if c.HasParent() && !c.Parent().HasParent() && c.GroupID == "" && !c.Hidden && !slices.Contains([]string{"help", "completion", "version"}, c.Name()) {
			t.Errorf("%s is in no group", name)
		}
	})
}

// TestExamplesCanBeTyped checks that the commands and flags of every example exist.
func TestExamplesCanBeTyped(t *testing.T) {
	examples := 0
	visitCommands(rootCommand(nil), func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(strings.NewReplacer("'", "", ">", " # ", "|", " # ").Replace(line))
			if len(words) == 0 || words[0] != "collectord" || c.Root().Name() != "collectord" || strings.HasPrefix(c.CommandPath(), "collectord completion") {
				continue
			}
			if i := slices.Index(words, "#"); i >= 0 {
				words = words[:i]
			}
			examples++
			found, rest, err := rootCommand(nil).Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil || found.HasSubCommands() {
				t.Errorf("%s: %s%v", c.CommandPath(), line, err)
			}
		}
		if slices.Contains([]string{"cat", "audit", "ship", "send", "wal", "fleet", "run", "status", "doctor"}, c.Name()) && !c.HasExample() {
			t.Errorf("%s has no example", c.CommandPath())
		}
	})
	if examples < 30 {
		t.Errorf("%d examples", examples)
	}
}

// TestFlagsAreWhereTheyAreUsed checks that commands have only the flags of keys they read,
// and that the flags' texts fit on a line.
func TestFlagsAreWhereTheyAreUsed(t *testing.T) {
	root := rootCommand(nil)
	visitCommands(root, func(c *cobra.Command) {
		path := c.CommandPath()
		daemon := path == runPath || path == "collectord doctor" || strings.HasPrefix(path, "collectord config ")
		if got := c.Flag("udp-allow") != nil; got != daemon && path != "collectord config" {
			t.Errorf("%s: --udp-allow is known: %t", path, got)
		}
		usage := c.UsageString()
		for line := range strings.Lines(usage) {
			if !strings.HasPrefix(line, "  collectord") && !strings.HasPrefix(line, "  #") && len(line) > 125 {
				t.Errorf("%s: a line of %d characters: %s", path, len(line), line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			switch last := f.Usage[strings.LastIndexByte(f.Usage, ' ')+1:]; {
			case strings.HasSuffix(f.Usage, "."), strings.Contains(f.Usage, ", ("), slices.Contains([]string{"as", "that", "the"}, strings.Trim(last, "()")):
				t.Errorf("%s: --%s: %q", path, f.Name, f.Usage)
			}
		})
	})
	for _, path := range []string{"wal ls", "ship", "audit", "cat", "fleet", "status"} {
		if c, _, err := root.Find(strings.Fields(path)); err != nil || c.Flag("data-dir") == nil {
			t.Errorf("%s has no --data-dir", path)
		}
	}
}

// TestValuesOfFlagsComplete completes the value of every flag, as a shell does. The result
// is files, a list of choices, or nothing, but never files for a number.
func TestValuesOfFlagsComplete(t *testing.T) {
	complete := func(args ...string) (lines []string) {
		var out strings.Builder
		root := rootCommand(nil)
		root.SetOut(&out)
		root.SetErr(&strings.Builder{})
		root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, args...))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		return strings.Fields(out.String())
	}
	files := fmt.Sprintf(":%d", cobra.ShellCompDirectiveDefault)
	nothing := []string{fmt.Sprintf(":%d", cobra.ShellCompDirectiveNoFileComp)}
	for line, want := range map[string][]string{
		"run --log-level ":      {"debug", "info", "warn", "error", nothing[0]},
		"run --http-anonymous ": {"true", "false", nothing[0]},
		"send --compress ":      {"gzip", "zstd", nothing[0]},
		"send --count ":         nothing,
		"send --payload ":       {files},
		"wal ls --config ":      {files},
		"wal ls ":               nothing,
		"audit --grace ":        nothing,
	} {
		if got := complete(strings.Split(line, " ")...); !slices.Equal(got, want) {
			t.Errorf("collectord %s: %q, want %q", line, got, want)
		}
	}
	for _, line := range []string{"cat ", "audit ", "fleet ", "ship --destination "} {
		if got := complete(strings.Split(line, " ")...); !slices.Contains(got, "s3://") {
			t.Errorf("collectord %s: %q", line, got)
		}
	}
	if got := complete("send", ""); !slices.Contains(got, "udp://localhost:3000") {
		t.Errorf("collectord send: %q", got)
	}
}
