package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"collectord/collectord/doctor"
	"collectord/config"
	"collectord/shipper/bucket"
)

// serviceName is the systemd unit that the packages install.
const serviceName = "collectord.service"

// runningProcess is what the doctor needs to run in the place of a process: its
// namespaces, user, environment and flags.
type runningProcess struct {
	pid                      int
	status, environ, cmdline []byte // contents of the files in /proc/PID
}

// enterService replaces this process by one inside the running service, if the service
// runs and this process is root. It returns checks for what could not be examined from
// outside.
func enterService(cmd *cobra.Command) []doctor.Check {
	const name = "process.surroundings"
	skip := func(why string) []doctor.Check {
		return []doctor.Check{doctor.Skip(name, why+": what only the service sees (its credentials, sandbox and limits) may differ")}
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil // no systemd
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), diskTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,SubState,MainPID", serviceName).Output()
	switch pid, loaded, failed := parseServiceStatus(string(out)); {
	case err != nil, !loaded:
		return nil // the service is not installed, or not managed by systemd
	case os.Geteuid() != 0:
		return skip("only root can look from inside the service")
	case failed:
		return []doctor.Check{doctor.Fail(name, "the service has failed and is not running: what only it sees (its credentials, sandbox and limits) was not checked", "see why it ended (journalctl --unit collectord), and start it (systemctl start collectord)")}
	case pid == 0:
		return []doctor.Check{doctor.Warn(name, "the service is not running: what only it sees (its credentials, sandbox and limits) was not checked", "start it (systemctl start collectord), or see why it ended (journalctl --unit collectord)")}
	default:
		p, err := readProcess(pid)
		if err == nil {
			argv, env := p.command(changedFlags(cmd))
			err = syscall.Exec(argv[0], argv, env)
		}
		return skip("can't look from inside the service: " + err.Error())
	}
}

// unitVariables returns the variables for collectord and its storage that the service has, and
// this process has not. What they set, this process does not see.
func unitVariables(ctx context.Context) []string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return nil // no systemd
	}
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=Environment", serviceName).Output()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(parseUnitVariables(string(out)), func(name string) bool {
		_, has := os.LookupEnv(name)
		return has
	})
}

var unitVariable = regexp.MustCompile(`[= "]((?:COLLECTORD|AWS)_\w+)=`)

// parseUnitVariables parses the output of systemctl show --property=Environment.
func parseUnitVariables(property string) (names []string) {
	for _, m := range unitVariable.FindAllStringSubmatch(property, -1) {
		names = append(names, m[1])
	}
	return names
}

// warnOfUnitVariables warns of settings of the service that this command does not see.
func warnOfUnitVariables(cmd *cobra.Command) {
	if names := unitVariables(cmd.Context()); len(names) > 0 {
		writef(cmd.ErrOrStderr(), "warning: the service has variables that this command has not, and may use another data_dir or destination: %s (systemctl cat collectord): set these keys in the file, for all commands\n", strings.Join(names, ", "))
	}
}

// isCredential reports whether a mistake is a missing file that only the service sees.
// A file name without a slash is the name of a credential (systemd.exec(5)).
func isCredential(m config.Mistake, files []namedFile) bool {
	return os.Getenv("CREDENTIALS_DIRECTORY") == "" && !strings.Contains(m.Origin, "/") &&
		slices.ContainsFunc(files, func(f namedFile) bool { return f.key == m.Key && f.path == m.Origin })
}

// skipCredentials marks the step "credentials" as not checked if the keys may be a
// credential of the service. Without access to that credential a failure proves
// nothing.
func skipCredentials(cfg *config.Config, steps []bucket.Step) []bucket.Step {
	if cfg.Shipper.S3.CredentialsFile != "" || os.Getenv("AWS_ACCESS_KEY_ID") != "" || os.Getenv("CREDENTIALS_DIRECTORY") != "" {
		return steps
	}
	for i := range steps {
		if s := &steps[i]; s.Name == "credentials" && s.Outcome == bucket.Failed {
			*s = bucket.Step{Name: s.Name, Outcome: bucket.NotChecked, Found: "the keys may be a credential that only the service sees"}
		}
	}
	return steps
}

// parseServiceStatus parses the output of systemctl show.
func parseServiceStatus(properties string) (pid int, loaded, failed bool) {
	for line := range strings.Lines(properties) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "LoadState":
			loaded = value == "loaded"
		case "ActiveState":
			failed = failed || value == "failed"
		case "SubState":
			failed = failed || value == "auto-restart"
		case "MainPID":
			pid, _ = strconv.Atoi(value)
		}
	}
	return pid, loaded, failed
}

func readProcess(pid int) (p runningProcess, err error) {
	p.pid = pid
	for name, to := range map[string]*[]byte{"status": &p.status, "environ": &p.environ, "cmdline": &p.cmdline} {
		if *to, err = os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name)); err != nil {
			return p, err
		}
	}
	return p, nil
}

// changedFlags returns the flags on the command line, split into those of the
// configuration and others.
func changedFlags(cmd *cobra.Command) (settings, others []string) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		text := "--" + f.Name + "=" + f.Value.String()
		if path, err := filepath.Abs(f.Value.String()); f.Name == "config" && err == nil { // the service has its own working directory
			text = "--config=" + path
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			text = "--" + f.Name + "=" + strings.Join(list.GetSlice(), ",")
		}
		if slices.Contains([]string{"json", "here", "user", "inside"}, f.Name) {
			others = append(others, text)
		} else {
			settings = append(settings, text)
		}
	})
	return settings, others
}

// command returns the command line and environment that run the doctor in the place of
// the process.
func (p runningProcess) command(settings, others []string) (argv, env []string) {
	id := func(name string) string {
		for line := range bytes.Lines(p.status) {
			if values, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
				return string(bytes.TrimSpace(values))
			}
		}
		return ""
	}
	effective := func(name string) string {
		if ids := strings.Fields(id(name)); len(ids) > 1 {
			return ids[1]
		}
		return "65534" // nobody, a user without rights
	}
	groups := "--clear-groups"
	if all := strings.Fields(id("Groups")); len(all) > 0 {
		groups = "--groups=" + strings.Join(all, ",")
	}
	args := strings.Split(strings.TrimSuffix(string(p.cmdline), "\x00"), "\x00")
	if run := slices.Index(args, "run"); len(settings) == 0 && run > 0 {
		settings = slices.Concat(args[1:run], args[run+1:])
	}
	argv = slices.Concat(
		[]string{"/usr/bin/nsenter", "--target", strconv.Itoa(p.pid), "--mount", "--net", "--wd", "--", "/usr/bin/setpriv", "--reuid=" + effective("Uid"), "--regid=" + effective("Gid"), groups},
		[]string{ownExecutable(), "doctor", "--inside=" + strconv.Itoa(p.pid)}, others, settings)
	for v := range strings.SplitSeq(strings.TrimSuffix(string(p.environ), "\x00"), "\x00") {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM", "INVOCATION_ID"}, name) {
			env = append(env, v)
		}
	}
	return argv, env
}

// ownExecutable returns the path of this program.
func ownExecutable() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "/usr/bin/collectord"
}

// userCheck reports the user that the checks ran as.
func userCheck(why string) doctor.Check {
	if why == "" {
		why = userName(os.Geteuid())
		if os.Geteuid() == 0 {
			return doctor.Warn("process.user", "checked as root, which has all rights: no user of the daemon was found", "name the user with --user, or create it (the packages do)")
		}
	}
	return doctor.Fine("process.user", "checked as "+why)
}
