package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/config"
)

// smallPipe returns a pipe with a small buffer.
func smallPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return r, w
}

// fillPipe writes to a pipe until it is full. It opens the pipe again, since O_NONBLOCK
// belongs to the open file description, which other processes share.
func fillPipe(t *testing.T, w *os.File) {
	t.Helper()
	again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	for _, size := range []int{4096, 1} {
		for err == nil {
			_, err = unix.Write(again, bytes.Repeat([]byte{'\n'}, size))
		}
		if !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		err = nil
	}
}

// startWithStderr runs the daemon with a pipe as standard error. It reads the pipe until
// the daemon logs that it is running.
func startWithStderr(t *testing.T, r, w *os.File, config string, port, admin int) *daemon {
	t.Helper()
	d := &daemon{t: t, cmd: command(t, "run", "--config", config), port: port, admin: admin}
	d.cmd.Stderr = w
	d.startProcess(func() {})
	_ = r.SetReadDeadline(time.Now().Add(testTimeout))
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the daemon does not start: %v", err)
		}
		if strings.Contains(line, "collectord is running") {
			return d
		}
	}
}

// exitTimeout is ten times as long as a daemon takes to end if it waits only for its log.
const exitTimeout = 10 * logFlushTimeout

// waitExit waits until the daemon has ended, and returns its exit status.
func (d *daemon) waitExit(after string) int {
	d.t.Helper()
	select {
	case <-d.exited:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(exitTimeout):
		d.t.Fatalf("the daemon still runs %v after %s", exitTimeout, after)
		return 0
	}
}

// newTimeoutClient returns a client with a timeout.
func newTimeoutClient(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{}, Timeout: exitTimeout}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// checkServing posts with a token and without, and scrapes.
func (d *daemon) checkServing(client *http.Client, token string) {
	d.t.Helper()
	if got := postAs(d.t, client, d.url(), token); got != http.StatusCreated {
		d.t.Fatalf("a usage is answered %d", got)
	}
	if got := postAs(d.t, client, d.url(), "cd_wrong"); got != http.StatusUnauthorized {
		d.t.Fatalf("a wrong token is answered %d", got)
	}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", d.admin))
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := parseMetrics(resp.Body); err != nil {
		d.t.Fatal(err)
	}
}

// countObjects counts the objects in the archive.
func countObjects(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir+"/data/archive", func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".ndjson.zst") {
			n++
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// configureDebug configures a daemon that requires a token and logs at level debug.
func configureDebug(t *testing.T, dir, more string) (config string, port, admin int, token string) {
	t.Helper()
	token, line := newToken(t, "ward-3")
	write(t, dir+"/tokens", line+"\n")
	config, port, admin = configure(t, dir, more)
	replaceInFile(t, config, "log: {format: text}", "log: {format: text, level: debug}")
	replaceInFile(t, config, "http: {", "http: {tokens_file: "+dir+"/tokens, ")
	return config, port, admin, token
}

func TestAnUnreadLogPipeStopsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin, token := configureDebug(t, dir, "wal: {seal_after: 100ms, min_free: 0}\n")
	r, w := smallPipe(t)
	d := startWithStderr(t, r, w, config, port, admin)
	client := newTimeoutClient(t)
	fillPipe(t, w)
	before := countObjects(t, dir)
	until(t, "objects are stored", func() bool {
		d.checkServing(client, token)
		return countObjects(t, dir) > before+5
	})
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := d.waitExit("SIGTERM"); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// Eviction from a full log writes log lines.
func TestAnUnreadLogPipeDoesNotStopEviction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	nowhere := fmt.Sprintf("shipper: {destination: 's3://bucket', s3: {endpoint: 'http://127.0.0.1:%d', region: x}}\n", freePorts(t, 1)[0])
	config, port, admin, token := configureDebug(t, dir, "wal: {segment_size: 1MiB, max_bytes: 4MiB, min_free: 0, when_full: drop_oldest}\nshutdown: {grace: 0s}\n"+nowhere)
	replaceInFile(t, config, "data_dir", "# no credentials are needed to fail\ndata_dir")
	r, w := smallPipe(t)
	d := startWithStderr(t, r, w, config, port, admin)
	client := newTimeoutClient(t)
	fillPipe(t, w)
	usage := `{"a":"` + strings.Repeat("a", 500<<10) + `"}`
	for i := range 30 {
		request, err := http.NewRequest(http.MethodPost, d.url(), strings.NewReader(usage))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(request)
		if err != nil {
			t.Fatalf("usage %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("usage %d is answered %d", i, resp.StatusCode)
		}
	}
	until(t, "usages are evicted", func() bool { return d.metrics()["collectord_usages_evicted_total"] > 0 })
	until(t, "usages are stored", func() bool { return postAs(t, client, d.url(), token) == http.StatusCreated }) // several segments must be evicted
	d.checkServing(client, token)
}

func TestALogReaderThatExitsIsSurvived(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin, token := configureDebug(t, dir, "wal: {seal_after: 100ms, min_free: 0}\n")
	r, w := smallPipe(t)
	d := startWithStderr(t, r, w, config, port, admin)
	w.Close()
	r.Close()
	client := newTimeoutClient(t)
	until(t, "log lines are dropped", func() bool {
		d.checkServing(client, token)
		return d.metrics()[`collectord_log_lines_dropped_total{reason="failed"}`] > 0
	})
	d.checkServing(client, token)
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := d.waitExit("SIGTERM"); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// The Go runtime writes a stack trace after the watchdog's SIGABRT, directly to standard
// error. The journal is a socket.
func TestAnUnreadStackTraceDoesNotKeepTheProcess(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"pipe", "pipe of root, whose daemon runs as another user", "socket"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			config, port, admin := configure(t, t.TempDir(), "wal: {min_free: 0}\n")
			if strings.Contains(kind, "another user") {
				config, _, port, admin = daemonsVolume(t, 65531, 65531, 0o750)
			}
			r, w := smallPipe(t)
			if kind == "socket" {
				r, w = socketPair(t)
			}
			d := startWithStderr(t, r, w, config, port, admin)
			if kind == "socket" {
				for err := error(nil); err == nil; {
					err = unix.Sendto(int(w.Fd()), []byte("\n"), unix.MSG_DONTWAIT, nil)
				}
			} else {
				fillPipe(t, w)
			}
			if err := d.cmd.Process.Signal(syscall.SIGABRT); err != nil {
				t.Fatal(err)
			}
			if status := d.waitExit("SIGABRT"); status == 0 {
				t.Error("exit status 0")
			}
		})
	}
}

// socketPair returns two connected sockets.
func socketPair(t *testing.T) (r, w *os.File) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil { // so that reads can have a deadline
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(pair[0]), "r"), os.NewFile(uintptr(pair[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// wrongConfiguration writes a configuration whose mistakes do not fit into a pipe.
func wrongConfiguration(t *testing.T) (path string, mistakes int) {
	t.Helper()
	const n = 400
	path = t.TempDir() + "/collectord.yaml"
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "no_such_key_%d: 1\n", i)
	}
	write(t, path, text.String())
	return path, n
}

// A reader that pauses for longer than logStallTimeout counts as absent. A trial in which
// the machine stalls for that long proves nothing.
func TestMistakesArePrintedCompletelyToASlowReader(t *testing.T) {
	t.Parallel()
	config, n := wrongConfiguration(t)
	for range 10 {
		text, longest := readSlowly(t, config)
		if got := strings.Count(text, "is not a key"); got == n && strings.HasSuffix(text, "\n") {
			return
		} else if longest < logStallTimeout/2 {
			t.Fatalf("%d of %d mistakes were printed", got, n)
		}
	}
	t.Error("the machine is too slow for this test")
}

// readSlowly returns the mistakes that a daemon prints, and its longest wait for this
// reader.
func readSlowly(t *testing.T, config string) (printed string, longest time.Duration) {
	t.Helper()
	r, w := smallPipe(t)
	d := &daemon{t: t, cmd: command(t, "run", "--config", config)}
	d.cmd.Stderr = w
	d.startProcess(func() {})
	w.Close()
	var text bytes.Buffer
	pause := 300 * time.Millisecond
	for {
		began := time.Now()
		<-time.After(pause)
		longest, pause = max(longest, time.Since(began)), 5*time.Millisecond
		_, err := io.CopyN(&text, r, 2048)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if status := d.waitExit("its last line"); status != exitBadConfig {
		t.Errorf("exit status %d", status)
	}
	return text.String(), longest
}

func TestMistakesThatNobodyReadsEndTheProcess(t *testing.T) {
	t.Parallel()
	config, _ := wrongConfiguration(t)
	_, w := smallPipe(t)
	fillPipe(t, w)
	d := &daemon{t: t, cmd: command(t, "run", "--config", config)}
	d.cmd.Stderr = w
	d.startProcess(func() {})
	if status := d.waitExit("its start"); status != exitBadConfig {
		t.Errorf("exit status %d", status)
	}
}

// The exit status has to be right even if the text can't be written: the service manager
// restarts the daemon or not, depending on that status.
func TestMistakesThatCanNotBeWrittenEndTheProcess(t *testing.T) {
	t.Parallel()
	config, _ := wrongConfiguration(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	r, gone := smallPipe(t)
	r.Close()
	for name, stderr := range map[string]*os.File{"a full disk": full, "a pipe without a reader": gone} {
		d := &daemon{t: t, cmd: command(t, "run", "--config", config)}
		d.cmd.Stderr = stderr
		d.startProcess(func() {})
		if status := d.waitExit("its start"); status != exitBadConfig {
			t.Errorf("%s: exit status %d", name, status)
		}
	}
}

// holdLease takes a lease on a file (fcntl(2)), so that every process that opens the file
// waits. opened reports whether a process waits.
func holdLease(t *testing.T, path string) (opened func() bool) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	return func() bool {
		lease, err := unix.FcntlInt(file.Fd(), unix.F_GETLEASE, 0)
		return err == nil && lease != unix.F_WRLCK
	}
}

// A service manager that does not read its messages delays the start, but not the end.
func TestASecondSignalEndsADaemonWhoseServiceManagerIsStuck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\n")
	replaceInFile(t, config, "udp: {", "udp: {sockets: 16, ")
	stuck, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stuck)
	if err := unix.Bind(stuck, &unix.SockaddrUnix{Name: dir + "/notify"}); err != nil {
		t.Fatal(err)
	}
	for err == nil { // until the socket's queue is full
		err = unix.Sendto(stuck, []byte("x"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: dir + "/notify"})
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	d := &daemon{t: t, cmd: command(t, "run", "--config", config), port: port, admin: admin}
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+dir+"/notify")
	d.startProcess(func() {})
	until(t, "the daemon listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	for _, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := d.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
	d.waitExit("a second signal")
}

func TestAHangingReloadDoesNotDelayAStop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, admin, _ := configureDebug(t, dir, "wal: {min_free: 0}\n")
	d := start(t, config, port, admin)
	opened := holdLease(t, dir+"/tokens")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until(t, "the daemon opens its tokens", opened)
	d.stop()
}

// pipedLogger is a logger into a pipe.
func pipedLogger(t *testing.T) (v *daemonLogger, r, w *os.File) {
	t.Helper()
	r, w = smallPipe(t)
	v, err := newDaemonLogger(config.Log{Level: "info", Format: "json"}, fdWriter(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return v, r, w
}

// Each line is either read once, in order, or counted and reported.
func TestLinesThatComeTooFastAreCountedAndReportedInOrder(t *testing.T) {
	v, r, _ := pipedLogger(t)
	const n = 20_000 // more than fits into the queue
	slow := 0
	for i := range n {
		began := time.Now()
		v.Info("line", "i", i)
		if time.Since(began) > logStallTimeout {
			slow++
		}
	}
	if slow > 3 { // the machine may stall at times
		t.Errorf("%d of %d lines waited", slow, n)
	}
	dropped := v.queue.snapshot().Full
	if dropped == 0 || dropped >= n {
		t.Fatalf("%d lines of %d were dropped", dropped, n)
	}
	read, next, missing := 0, 0, 0
	lines := bufio.NewScanner(r)
	_ = r.SetReadDeadline(time.Now().Add(testTimeout))
	for next < n && lines.Scan() {
		var i int
		text := lines.Text()
		if _, rest, ok := strings.Cut(text, `"msg":"line","i":`); ok {
			if _, err := fmt.Sscan(strings.TrimSuffix(rest, "}"), &i); err != nil || i != next {
				t.Fatalf("want line %d, got %s", next, text)
			}
			next++
			read++
			continue
		}
		_, rest, ok := strings.Cut(text, `"msg":"log lines are missing here: they came faster than they were read","lines":`)
		if _, err := fmt.Sscan(strings.TrimSuffix(rest, "}"), &i); !ok || err != nil {
			t.Fatal(text)
		}
		next += i
		missing += i
	}
	if err := lines.Err(); err != nil || read+missing != n || uint64(missing) != v.queue.snapshot().Full {
		t.Errorf("%d lines were read and %d reported as missing, of %d; %d are counted; %v", read, missing, n, dropped, err)
	}
	v.Info("after")
	if !lines.Scan() || !strings.Contains(lines.Text(), `"msg":"after"`) {
		t.Errorf("%q, %v", lines.Text(), lines.Err())
	}
}

// The disk of the log file may be full for a while.
func TestLinesThatCanNotBeWrittenAreCountedAndReported(t *testing.T) {
	out := &failingWriter{}
	v, err := newDaemonLogger(config.Log{Level: "info", Format: "text"}, standardError)
	if err != nil {
		t.Fatal(err)
	}
	v.queue = newLogQueue(out, v.queue.report)
	log := slog.New(slog.NewTextHandler(v.queue, nil))
	log.Info("before")
	v.queue.flush(logFlushTimeout)
	out.limitTo(10) // in the middle of the next line
	log.Info("lost")
	v.queue.flush(logFlushTimeout)
	if got := v.queue.snapshot().Failed; got != 1 {
		t.Errorf("%d lines are counted", got)
	}
	out.limitTo(-1)
	log.Info("after")
	v.queue.flush(logFlushTimeout)
	lines := strings.Split(strings.TrimSuffix(out.text(), "\n"), "\n")
	if len(lines) != 4 || !strings.Contains(lines[0], "msg=before") || strings.Contains(lines[1], "msg=") ||
		!strings.Contains(lines[2], `they could not be written" lines=1`) || !strings.Contains(lines[3], "msg=after") {
		t.Errorf("%q", lines)
	}
}

// failingWriter accepts a limited number of bytes, and fails after that.
type failingWriter struct {
	mu      sync.Mutex
	written strings.Builder
	limited bool
	left    int
}

// limitTo sets the number of bytes that are still accepted. A negative n is no limit.
func (f *failingWriter) limitTo(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited, f.left = n >= 0, n
}

func (f *failingWriter) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limited && len(b) > f.left {
		f.written.Write(b[:f.left])
		n := f.left
		f.left = 0
		return n, syscall.ENOSPC
	}
	return f.written.Write(b)
}

func (f *failingWriter) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written.String()
}
