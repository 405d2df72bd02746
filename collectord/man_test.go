package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestManualPageTellsOfEveryCommandAndItsFlags(t *testing.T) {
	page := manual(rootCommand(nil))
	var check func(*cobra.Command)
	check = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if sub.Hidden {
				continue
			}
			if !sub.HasSubCommands() && !strings.Contains(page, "\n.B "+sub.CommandPath()) {
				t.Errorf("nothing on %s", sub.CommandPath())
			}
			check(sub)
		}
	}
	check(rootCommand(nil))
	for _, f := range []string{`\-\-config`, `\-\-http\-listen`, `\-\-json`} {
		if !strings.Contains(page, "\n.B "+f) {
			t.Errorf("nothing on %s", f)
		}
	}
	if _, err := exec.LookPath("groff"); err != nil {
		return // what it would say of the page, lintian says when a package is made
	}
	groff := exec.Command("groff", "-man", "-Tutf8", "-ww", "-z")
	groff.Stdin = strings.NewReader(page)
	if out, err := groff.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
