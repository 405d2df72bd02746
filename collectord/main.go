package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"collectord/config"
	"collectord/wal"
)

// version and built are set when a release is built: built to seconds since 1970.
var version, built = "devel", ""

// Exit statuses. badConfig is EX_CONFIG of sysexits(3): a service manager need
// not try again.
const (
	exitError     = 1
	exitNotRight  = 2 // the thing that was checked
	exitBadConfig = 78
)

// main ends when the command does, or, whatever the command is doing, when a signal
// has the process end at once.
func main() {
	status := make(chan int)
	caught := catchSignals(func(s int) { status <- s })
	go func() { caught.exit(execute(os.Args[1:], caught)) }()
	os.Exit(<-status)
}

func execute(args []string, caught *signals) int {
	root := rootCommand(caught)
	root.SetArgs(args)
	if cmd, _, err := root.Find(args); err != nil || cmd.CommandPath() != runPath {
		caught.release()
	} else {
		go caught.handle()
	}
	stderr := &visibleWriter{out: os.Stderr}
	root.SetOut(&visibleWriter{out: os.Stdout})
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	text, status := failure(cmd, err)
	if onJournal(standardError) {
		text = prioritized(text, slog.LevelError)
	}
	if cmd.CommandPath() != runPath {
		_, _ = io.WriteString(stderr, text)
		return status
	}
	// No line reports what could not be written: this text is all there is.
	last := newLogQueue(descriptor(standardError), func(string, uint64) []byte { return nil })
	_, _ = last.Write(visible([]byte(text))) // never fails
	last.flush(logPatience)
	return status
}

// runPath is the command of the daemon, which a standard error that nobody reads
// does not keep from ending.
const runPath = "collectord run"

// failure returns what to print about an error, and the exit status.
func failure(cmd *cobra.Command, err error) (text string, status int) {
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		var r *refusal
		if errors.As(err, &r) {
			for _, w := range r.warnings {
				text += "warning: " + quoted(w) + "\n"
			}
		}
		text += fmt.Sprintf("collectord: the configuration has %s:\n", plural(len(mistakes), "mistake"))
		for _, m := range mistakes {
			text += quoted(m.String()) + "\n"
		}
		switch cmd.CommandPath() {
		case runPath:
			return text, exitBadConfig
		case "collectord config check":
			return text, exitNotRight
		}
		return text, exitError
	}
	var done checkedStatus
	if errors.As(err, &done) {
		return "", int(done)
	}
	text = errorText(err)
	if errors.Is(err, wal.ErrVersion) && cmd.CommandPath() == runPath { // nothing changes that but people
		return text, exitBadConfig
	}
	var bad notRight
	if errors.As(err, &bad) {
		return text, exitNotRight
	}
	return text, exitError
}

func rootCommand(caught *signals) *cobra.Command {
	root := &cobra.Command{
		Use:   "collectord",
		Short: "Collect usages on an edge host and ship them to object storage",
		Long: `Collect usages (JSON objects) over HTTP and UDP on an edge host, keep them in a write-ahead log, and ship them to object
storage or a folder.

Exit status: 0 fine; 1 an error; 2 what was checked is not as it should be; 78 run was given a wrong configuration.`,
		Example:       firstSteps,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().String("config", "", "configuration file (default "+config.DefaultPath+")")
	root.AddCommand(runCommand(caught), statusCommand(), doctorCommand(), configCommand(), walCommand(), shipCommand(), auditCommand(), catCommand(), fleetCommand(), sendCommand(), tokenCommand(), versionCommand(), manCommand())
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetVersionTemplate("{{.Version}}\n")
	return finished(root)
}

// notRight means that what was checked is not as it should be.
type notRight string

func (e notRight) Error() string { return string(e) }

func notRightf(format string, args ...any) error { return notRight(fmt.Sprintf(format, args...)) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), versionText()+"\n")
			return err
		},
	}
}

func versionText() string {
	goVersion := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	return fmt.Sprintf("collectord %s (%s)", version, goVersion)
}

// buildTime is when the program was built, or, of a build from a work tree, when its
// source was committed; zero: not known.
func buildTime() time.Time {
	if seconds, err := strconv.ParseInt(built, 10, 64); err == nil {
		return time.Unix(seconds, 0)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if at, err := time.Parse(time.RFC3339, s.Value); err == nil && s.Key == "vcs.time" {
			return at
		}
	}
	return time.Time{}
}

// settings loads the configuration that the command's flags name, for a command that
// uses some of its keys or sections. A wrong value of another must not keep people from
// looking at the log or the bucket; what is not a key at all may be meant as one of them.
func settings(cmd *cobra.Command, uses ...string) (*config.Config, error) {
	src := source(cmd)
	src.Uses = uses
	cfg, warnings, err := config.Load(src)
	if uses != nil {
		for _, w := range warnings {
			writef(cmd.ErrOrStderr(), "warning: %s\n", w)
		}
	}
	return cfg, err
}

func source(cmd *cobra.Command) config.Source {
	s := config.Source{Flags: cmd.Flags()}
	if f := cmd.Flags().Lookup("config"); f != nil {
		s.Path = f.Value.String()
	}
	return s
}
