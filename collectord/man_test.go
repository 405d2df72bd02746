package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestManualPageDescribesEveryCommandAndItsFlags(t *testing.T) {
	page := manual(rootCommand(nil))
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			if !sub.HasSubCommands() && !strings.Contains(page, "\n.B "+sub.CommandPath()) {
				t.Errorf("the page lacks the command %s", sub.CommandPath())
			}
			check(sub)
		}
	}
	check(rootCommand(nil))
	for _, f := range []string{`\-\-config`, `\-\-http\-listen`, `\-\-json`} {
		if !strings.Contains(page, "\n.B "+f) {
			t.Errorf("the page lacks the flag %s", f)
		}
	}
	for _, part := range []string{
		"\n.TP\n.B missing\na gap in", // a row of a table, with its continued line
		"\n.nf\n# log id          records ",
		"\ncollectord wal verify \\-\\-json | grep",
		"\nIt also takes \\-\\-data\\-dir below FLAGS.\n",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		return // lintian makes the same checks when a package is built
	}
	groff := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z")
	groff.Stdin = strings.NewReader(page)
	if out, err := groff.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
