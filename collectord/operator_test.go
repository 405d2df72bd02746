package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"collectord/collectord/testrun"
)

// situation is a command that an operator runs, with the expected exit status and the
// expected helpful line. In args, config, env and wantOutput, DIR stands for a temporary
// directory, and PORT, PORT2 and PORT3 for free ports.
type situation struct {
	name   string
	args   string   // arguments of collectord, separated by blanks
	config string   // content of DIR/collectord.yaml, for --config; "" for none
	env    []string // NAME=value
	stdin  string
	setUp  func(t *testing.T, dir string) // runs before the command, or nil

	wantExit       int    // status
	wantOutput     string // text that stdout or stderr contains
	unwantedOutput string // text that neither contains, or ""
}

// situations returns the parts of the script. Each part has its own file.
func situations() map[string][]situation {
	all := map[string][]situation{}
	for _, add := range []func(map[string][]situation){basicSituations, validationSituations, forensicSituations, commandSituations, operationSituations, statusSituations, doctorSituations, fleetSituations} {
		add(all)
	}
	return all
}

// TestOperatorOutput runs the script: every command and mistake has the exit status and the
// line that documents and operators rely on. Each is a process, so go test runs half of
// them; TEST_ALL=1 runs all.
func TestOperatorOutput(t *testing.T) {
	for part, script := range situations() {
		t.Run(part, func(t *testing.T) {
			for i, s := range script {
				if i%testrun.OneIn(2) != 0 {
					continue
				}
				t.Run(s.name, func(t *testing.T) {
					t.Parallel()
					s.run(t)
				})
			}
		})
	}
}

func (s situation) run(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 3)
	fill := strings.NewReplacer("DIRECTORY", "DIRECTORY", "DIR", dir, "PORT3", fmt.Sprint(ports[2]), "PORT2", fmt.Sprint(ports[1]), "PORT", fmt.Sprint(ports[0])).Replace
	if s.setUp != nil {
		s.setUp(t, dir)
	}
	cmd := command(t, strings.Fields(fill(s.args))...)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd = exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if s.config != "" {
		path := filepath.Join(dir, "collectord.yaml")
		if err := os.WriteFile(path, []byte(fill(s.config)), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(cmd.Args, "--config", path)
	}
	for _, v := range s.env {
		cmd.Env = append(cmd.Env, fill(v))
	}
	cmd.Stdin = strings.NewReader(s.stdin)
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != s.wantExit {
		t.Errorf("collectord %s: exit status %d, want %d", s.args, got, s.wantExit)
	}
	if want := fill(s.wantOutput); !strings.Contains(string(out), want) {
		t.Errorf("collectord %s: the output lacks %q", s.args, want)
	}
	if s.unwantedOutput != "" && strings.Contains(string(out), fill(s.unwantedOutput)) {
		t.Errorf("collectord %s: the output contains %q", s.args, fill(s.unwantedOutput))
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}
