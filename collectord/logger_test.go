package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"collectord/config"
)

// journalPipe returns a pipe, and the value that $JOURNAL_STREAM has if the pipe leads to
// the journal.
func journalPipe(t *testing.T) (r, w *os.File, stream string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	var st syscall.Stat_t
	if err := syscall.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return r, w, fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func TestLinesForTheJournalHaveItsPriorityAndNoSecondTime(t *testing.T) {
	logged := func(stream, format string) string {
		r, w, own := journalPipe(t)
		if stream == "" {
			stream = own
		}
		t.Setenv("JOURNAL_STREAM", stream)
		v, err := newDaemonLogger(config.Log{Level: "debug", Format: format}, fdWriter(w.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		with := v.With("a", 1).WithGroup("g")
		with.Error("e", "trouble", "t")
		with.Warn("w", "addr", net.Addr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 3000}))
		with.Info("i\nj", "wait", 90*time.Second)
		v.Debug("d")
		v.close()
		w.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for format, want := range map[string]string{
		"text": "<3>level=ERROR msg=e a=1 g.trouble=t\n<4>level=WARN msg=w a=1 g.addr=127.0.0.1:3000\n<6>level=INFO msg=\"i\\nj\" a=1 g.wait=1m30s\n<7>level=DEBUG msg=d\n",
		"json": `<3>{"level":"ERROR","msg":"e","a":1,"g":{"trouble":"t"}}` + "\n" +
			`<4>{"level":"WARN","msg":"w","a":1,"g":{"addr":"127.0.0.1:3000"}}` + "\n" +
			`<6>{"level":"INFO","msg":"i\nj","a":1,"g":{"wait":"1m30s"}}` + "\n" +
			`<7>{"level":"DEBUG","msg":"d"}` + "\n",
	} {
		if got := logged("", format); got != want {
			t.Errorf("the journal gets\n%swant\n%s", got, want)
		}
	}
	// A wrapper in the unit may redirect standard error away from the journal.
	for _, stream := range []string{"1:2", "x", "8:1:2"} {
		if got := logged(stream, "text"); strings.Contains(got, "<") || strings.Count(got, "time=") != 4 {
			t.Errorf("JOURNAL_STREAM=%s: %s", stream, got)
		}
	}
}

// journalctl -p err has to show why a start failed, so each line needs the priority.
func TestErrorsOfCommandsAreErrorsToTheJournal(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"run", "--seal-after", "x", "--data-dir", ""}, {"config", "check", "--seal-after", "x"}, {"wal", "lsx"}} {
		r, w, stream := journalPipe(t)
		cmd := command(t, args...)
		cmd.Env = append(os.Environ(), "JOURNAL_STREAM="+stream)
		cmd.Stderr = w
		if err := cmd.Run(); err == nil {
			t.Errorf("%q succeeds", args)
		}
		w.Close()
		text, err := io.ReadAll(r)
		if err != nil || len(text) == 0 {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "<3>") {
				t.Errorf("%q: a line without the priority of an error: %s", args, line)
			}
		}
	}
}

func TestStartupLogFitsAScreen(t *testing.T) {
	t.Parallel()
	const screen = 24 * 80
	run := func(args ...string) (start, all string) {
		dir := t.TempDir()
		ports := freePorts(t, 2)
		at := fmt.Sprintf("127.0.0.1:%d", ports[0])
		args = append([]string{"run", "--data-dir", dir + "/data", "--http-listen", at, "--udp-listen", at, "--admin-listen", fmt.Sprintf("127.0.0.1:%d", ports[1])}, args...)
		d := startCommand(t, command(t, args...), ports[0], ports[1])
		start = d.log()
		d.stop()
		return start, d.log()
	}
	for _, format := range []string{"json", "text"} {
		start, all := run("--log-format", format)
		if len(start) > screen || strings.Contains(start, "limits") {
			t.Errorf("a start logs %d characters:\n%s", len(start), start)
		}
		if !strings.Contains(start, "anyone on this host may send") {
			t.Errorf("the start does not log which clients can send:\n%s", start)
		}
		if zeros := regexp.MustCompile(`map\[|\{\}|torn_bytes|findings`).FindString(all); zeros != "" {
			t.Errorf("%s is logged although it is zero:\n%s", zeros, all)
		}
	}
	start, _ := run("--log-format", "text", "--seal-after", "50s")
	if !strings.Contains(start, `msg="limits that are not the defaults" wal.seal_after=50s`+"\n") {
		t.Errorf("the start does not log exactly the configured limit:\n%s", start)
	}
	if start, _ = run("--log-level", "debug", "--log-format", "text"); !strings.Contains(start, "wal.max_bytes=4GiB") || !strings.Contains(start, "log_id=") {
		t.Errorf("the other limits are not logged at level debug:\n%s", start)
	}
}
