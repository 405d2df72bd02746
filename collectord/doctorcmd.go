package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"collectord/collectord/auth"
	"collectord/collectord/doctor"
	"collectord/config"
)

func doctorCommand() *cobra.Command {
	var (
		asJSON, here bool
		asUser       string
		inside       int
	)
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check configuration, ports, files, disk, log, clock, kernel and storage; exits with 2 if something is wrong",
		Long: `Check the following, and say what to do: the configuration and its effect, the ports and the processes that use them,
files, data_dir with its disk and the log, the limits of the kernel, the storage step by step, and the clock. The command
may be used before the first start, and while the daemon is running. It changes nothing, except that it puts the same
small objects into the bucket as a start does, and syncs a file of its own in data_dir for up to two seconds.

Run as root, it checks from inside the running service: in its namespaces, with its environment, flags and credentials,
and as its user. If the service is not running, it checks as the owner of data_dir, or as the user that the packages
create. Flags of the configuration replace those of the daemon. The output lists what could not be checked.

Exit status: 0 nothing is wrong, though there may be warnings; 1 the checks could not run; 2 something is wrong.`,
		Example: `  collectord doctor
  collectord doctor --config collectord.yaml --here
  collectord doctor --json | jq '.checks[] | select(.level != "ok")'`,
		GroupID:    groupDaemon,
		SuggestFor: []string{"diagnose", "health", "troubleshoot"},
	}
	config.AddFlags(c.Flags())
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "one JSON object, for programs: verdict, and checks with check, level, found and advice")
	f.BoolVar(&here, "here", false, "check what this process sees, not what the running service sees")
	f.StringVar(&asUser, "user", "", "check as this user, by name or number; for root only")
	f.IntVar(&inside, "inside", 0, "id of the service's process, inside whose namespaces this command runs")
	f.Lookup("inside").Hidden = true
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var processChecks []doctor.Check
		switch {
		case inside > 0:
			processChecks = append(processChecks, doctor.Fine("process.surroundings", fmt.Sprintf("checked inside the service (process %d): with its files, network, environment and credentials", inside)))
		case !here && asUser == "":
			processChecks = enterService(cmd)
		}
		x := checkRun{ctx: cmd.Context(), src: source(cmd), outsideService: inside == 0 && len(processChecks) > 0, sockets: socketTables{}}
		x.findHolders()
		why, err := becomeDaemonUser(x.src, asUser)
		if err != nil {
			return err
		}
		processChecks = append(processChecks, userCheck(why))
		r := doctor.NewReport(append(processChecks, x.checks()...))
		if asJSON {
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			err = out.Encode(r)
		} else {
			err = doctorText(cmd.OutOrStdout(), r)
		}
		if err == nil && r.Verdict == doctor.Error {
			err = notRightf("%s: see the lines that say error", plural(r.Count(doctor.Error), "check")+" failed")
		}
		return err
	}
	return c
}

// doctorText writes a report as text: the verdict first, then the checks by group.
func doctorText(out io.Writer, r doctor.Report) error {
	var b strings.Builder
	verdict := "RIGHT"
	if r.Verdict == doctor.Error {
		verdict = "NOT RIGHT"
	}
	writef(&b, "%s: %s, %s, %d not checked\n", verdict, plural(r.Count(doctor.Error), "error"), plural(r.Count(doctor.Warning), "warning"), r.Count(doctor.Unchecked))
	group, sameFinding := "", []string(nil)
	for i, c := range r.Checks {
		if c.Group() != group {
			group = c.Group()
			writef(&b, "\n%s\n", group)
		}
		name := strings.TrimPrefix(c.Name, group+".")
		if next := i + 1; c.Level == doctor.Unchecked && next < len(r.Checks) && r.Checks[next].Group() == group && r.Checks[next].Found == c.Found {
			sameFinding = append(sameFinding, name) // printed with the next check, which has the same finding
			continue
		}
		name = strings.Join(append(sameFinding, name), ", ")
		sameFinding = nil
		writef(&b, "  %-9s  %-20s  %s\n", string(c.Level), name, c.Found)
		if c.Advice != "" {
			writef(&b, "  %33s%s\n", "", "-> "+c.Advice)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// checkRun runs the checks of doctor on one configuration.
type checkRun struct {
	ctx            context.Context
	src            config.Source
	outsideService bool // a service exists, and this process does not share its environment
	sockets        socketTables
	holders        map[config.Address]portHolder // as seen by root; nil if the process was not root

	draft      draft
	policy     auth.Policy
	log        logState
	clockAhead atomic.Pointer[time.Duration] // how far the clock is ahead of the storage's; nil: unknown
}

// checks runs all checks. It skips a group whose keys have a mistake.
func (x *checkRun) checks() []doctor.Check {
	x.draft, x.policy = newDraft(x.src)
	if x.draft.Config != nil && x.draft.Valid("data_dir") {
		x.log = readLogStateWithTimeout(x.draft.Config.DataDir)
	}
	all := x.configuration()
	for _, group := range []struct {
		name  string
		keys  []string // keys that must be valid
		check func() []doctor.Check
	}{
		{"ports", []string{"http.listen", "udp.listen", "admin.listen"}, x.ports},
		{"files", nil, x.files},
		{"data_dir", []string{"data_dir"}, x.dataDir},
		{"log", []string{"data_dir"}, x.logChecks},
		{"kernel", nil, x.kernel},
		{"storage", []string{"shipper.destination", "shipper.s3"}, x.storage},
		{"clock", nil, x.clock},
	} {
		if x.draft.Config == nil || !x.areValid(group.keys) {
			all = append(all, doctor.Skip(group.name+".all", "a key that this check needs has a mistake"))
			continue
		}
		all = append(all, group.check()...)
	}
	return all
}

// areValid reports whether the configuration has no mistake in the keys. A section in keys
// stands for all of its keys.
func (x *checkRun) areValid(keys []string) bool {
	return x.draft.Valid(keys...) && !slices.ContainsFunc(x.draft.Mistakes, func(m config.Mistake) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(m.Key, key+".") })
	})
}
