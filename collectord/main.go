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

// version and built are set by the release build. built is in seconds since 1970.
var version, built = "devel", ""

// Exit statuses. exitBadConfig is EX_CONFIG of sysexits(3), which lets a service
// manager avoid a useless restart.
const (
	exitError     = 1
	exitNotRight  = 2 // a check found something wrong
	exitBadConfig = 78
)

// main runs the command in a goroutine, so that a signal can end the process at any
// time.
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
	if err == nil && cmd.HasSubCommands() { // --help and --version precede the check of arguments
		err = unknownCommand(cmd, cmd.Flags().Args())
	}
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
	// This text is the last output, so no line can report what could not be written.
	last := newLogQueue(fdWriter(standardError), func(string, uint64) []byte { return nil })
	_, _ = last.Write(visible([]byte(text))) // never fails
	last.flush(logFlushTimeout)
	return status
}

// runPath is the command of the daemon. Its last output has a time limit, because its
// standard error may have no reader.
const runPath = "collectord run"

// failure returns the text to print for an error, and the exit status.
func failure(cmd *cobra.Command, err error) (text string, status int) {
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		var r *configError
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
	var exit exitStatus
	if errors.As(err, &exit) {
		return "", int(exit)
	}
	text = errorText(err)
	if errors.Is(err, wal.ErrVersion) && cmd.CommandPath() == runPath { // a restart can't help
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

Exit status: 0 fine; 1 an error; 2 a check found something wrong; 78 run was given a wrong configuration.`,
		Example:       firstSteps,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().Var(&configFlag{}, "config", "configuration file (default "+config.DefaultPath+")")
	root.AddCommand(runCommand(caught), statusCommand(), doctorCommand(), configCommand(), walCommand(), shipCommand(), auditCommand(), catCommand(), fleetCommand(), sendCommand(), tokenCommand(), versionCommand(), manCommand())
	root.Flags().BoolP("version", "v", false, "print the version")
	root.SetVersionTemplate("{{.Version}}\n")
	return prepareRoot(root)
}

// notRight is the error of a check that found something wrong. Its exit status is
// exitNotRight.
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

// buildTime returns when the release was built, or the commit time of a build from a
// work tree. It returns the zero time if both are unknown.
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

// settings loads the configuration that the flags of a command name. It rejects wrong
// values only in the keys and sections in keys, so that a mistake elsewhere does not
// block a look at the log or the bucket. It always rejects unknown keys, because an
// unknown key may be a needed one that is misspelled.
func settings(cmd *cobra.Command, keys ...string) (*config.Config, error) {
	src := source(cmd)
	src.Uses = keys
	cfg, warnings, err := config.Load(src)
	if keys != nil {
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
