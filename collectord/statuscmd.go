package main

import (
	"bufio"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"collectord/collectord/admin"
	"collectord/config"
)

func statusCommand() *cobra.Command {
	var asJSON, check bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Ask the running daemon what it does, what fails, and since when",
		Long: `Ask the running daemon at admin.listen what it does: whether it is fine, what comes in, what waits and how long the space
lasts, where objects go and whether that succeeds, what fails, since when, and what to do about it.

verdict:
  fine      nothing is wrong
  starting  nothing is known yet
  warning   somebody should see to it: the storage has failed for less than 5 minutes; the log will be full within a day;
            a usage has waited for more than an hour; in the last minute the host rejected usages that it could not take,
            or a tenth of the usages was not valid; something was put aside; the certificate expires within 14 days; a
            reload failed; the daemon's log has a warning of a trouble that is not over
  failing   usages are lost or rejected, or will be: the storage has failed for 5 minutes, or refuses what is put; the
            log is full, or will be within an hour; a usage has waited for a day; usages were dropped; the certificate
            has expired; the daemon's log has an error of a trouble that is not over

--check prints one line, for cron and for monitoring agents that run plugins. It exits with 0 if the daemon is fine. It
exits with 1 for a warning, while the daemon starts, and if the configuration can't be read or admin.listen is off. It
exits with 2 if the daemon is failing, or if no daemon answers.

Rates cover the last minute. Counts begin with the start of the daemon, unless another time is named.`,
		Example: `  collectord status
  collectord status --json | jq .destination
  collectord status --check || mail -s "collectord on $(hostname)" root </dev/null`,
		GroupID:    groupDaemon,
		SuggestFor: []string{"health", "state", "top", "stats", "ps", "ping"},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "the status as one JSON object, for programs")
	f.BoolVar(&check, "check", false, "print one line, and exit with 0, 1 or 2")
	config.AddFlags(f, "data_dir", "admin.listen")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := settings(cmd, "data_dir", "admin")
		if err != nil {
			return err
		}
		s, err := askStatus(cmd.Context(), cfg)
		switch {
		case err == nil:
		case check && len(cfg.Admin.Listen) > 0: // --check reports this in its line, too
			s, err = &admin.Status{Verdict: admin.Failing, Summary: err.Error()}, nil
		default:
			return err
		}
		out := bufio.NewWriter(cmd.OutOrStdout())
		switch {
		case asJSON:
			err = json.NewEncoder(out).Encode(s)
		case check:
			writef(out, "%s: %s\n", strings.ToUpper(string(s.Verdict)), s.Summary)
		default:
			err = writeStatus(out, s)
		}
		if err == nil {
			err = out.Flush()
		}
		if err == nil && check {
			err = statusExit(s.Verdict)
		}
		return err
	}
	return c
}

// exitStatus is an exit status whose error prints nothing more.
type exitStatus int

func (exitStatus) Error() string { return "" }

// statusExit returns the error that gives status --check its exit status.
func statusExit(v admin.Verdict) error {
	switch v {
	case admin.Fine:
		return nil
	case admin.Starting, admin.Warning:
		return exitStatus(exitError)
	}
	return exitStatus(exitNotRight)
}
