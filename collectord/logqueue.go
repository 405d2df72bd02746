package main

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/admin"
)

const (
	// logQueueBytes bounds the lines that wait for the writer, and once more those
	// that it is writing.
	logQueueBytes = 256 << 10

	// logPiece is what is written at a time. A pipe takes this much as a whole
	// (PIPE_BUF), so that no other writer's text comes between.
	logPiece = 4 << 10

	// An ending process waits for its log until nothing was written for logStalled,
	// and not beyond logPatience.
	logStalled  = time.Second
	logPatience = 3 * time.Second
)

// logQueue writes the lines of the log from a goroutine of its own, so that a
// reader that is slow, stuck or gone stops nobody who logs. Lines that find the
// queue full are dropped. They, and those that could not be written, are counted,
// and a line of the queue's own reports them once lines are written again. The
// order of the lines is kept.
type logQueue struct {
	out    io.Writer
	report func(message string, lines uint64) []byte // formats a line of the queue's own
	wake   chan struct{}                             // there are lines

	mu      sync.Mutex // guards what follows; never held while writing
	lines   []byte     // wait to be written
	dropped uint64     // lines, since the queue was full
	writing bool
	pieces  uint64          // written so far
	drained []chan struct{} // closed once all is written
	counts  admin.LoggerSnapshot
}

func newLogQueue(out io.Writer, report func(string, uint64) []byte) *logQueue {
	q := &logQueue{out: out, report: report, wake: make(chan struct{}, 1)}
	go (&logWriter{queue: q}).run()
	return q
}

// Write takes one line, or several. It neither blocks nor fails.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// While lines are missing, none that came later goes before that is reported.
	if q.dropped > 0 || len(q.lines) > 0 && len(q.lines)+len(line) > logQueueBytes {
		q.dropped++
		q.counts.Full++
		return len(line), nil
	}
	q.lines = append(q.lines, line...)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// snapshot returns how many lines are missing in the log.
func (q *logQueue) snapshot() admin.LoggerSnapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// take returns the lines that wait, and how many were dropped after them. The
// buffer is used for the next ones.
func (q *logQueue) take(buffer []byte) (lines []byte, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing = len(q.lines) > 0
	if !q.writing {
		for _, done := range q.drained {
			close(done)
		}
		q.drained = nil
	}
	lines, q.lines = q.lines, buffer[:0]
	dropped, q.dropped = q.dropped, 0
	return lines, dropped
}

// wrote counts a piece, or the lines that could not be written.
func (q *logQueue) wrote(failed uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pieces++
	q.counts.Failed += failed
}

// flush waits until all lines are written, as long as they are, but not for ever.
func (q *logQueue) flush(timeout time.Duration) {
	q.mu.Lock()
	if !q.writing && len(q.lines) == 0 {
		q.mu.Unlock()
		return
	}
	done, before := make(chan struct{}), q.pieces
	q.drained = append(q.drained, done)
	q.mu.Unlock()

	end := time.After(timeout)
	look := time.NewTicker(logStalled)
	defer look.Stop()
	for {
		select {
		case <-done:
			return
		case <-end:
			return
		case <-look.C:
		}
		q.mu.Lock()
		now := q.pieces
		q.mu.Unlock()
		if now == before {
			return
		}
		before = now
	}
}

// logWriter is the queue's goroutine, which alone writes.
type logWriter struct {
	queue           *logQueue
	dropped, failed uint64 // lines that are missing, which no line reports yet
	torn            bool   // the last line was cut off
}

func (w *logWriter) run() {
	var lines []byte
	for range w.queue.wake {
		for {
			var dropped uint64
			if lines, dropped = w.queue.take(lines); len(lines) == 0 {
				break
			}
			w.reportMissing() // of the time before
			failed := w.write(lines)
			w.queue.wrote(failed)
			w.failed += failed
			w.dropped += dropped
			w.reportMissing()
		}
	}
}

// reportMissing leaves for later what it can't report.
func (w *logWriter) reportMissing() {
	if w.failed > 0 && w.write(w.queue.report("log lines are missing here: they could not be written", w.failed)) == 0 {
		w.failed = 0
	}
	if w.dropped > 0 && w.write(w.queue.report("log lines are missing here: they came faster than they were read", w.dropped)) == 0 {
		w.dropped = 0
	}
}

// write returns how many lines are missing. What fails may work later, such as
// when a disk is no longer full.
func (w *logWriter) write(lines []byte) (missing uint64) {
	for len(lines) > 0 {
		piece := lines[:min(len(lines), logPiece)]
		if end := bytes.LastIndexByte(piece, '\n'); end >= 0 {
			piece = piece[:end+1]
		}
		if w.torn {
			if _, err := w.queue.out.Write([]byte("\n")); err != nil {
				return uint64(bytes.Count(lines, []byte("\n")))
			}
			w.torn = false
		}
		n, err := w.queue.out.Write(piece)
		lines = lines[n:]
		if err != nil {
			w.torn = n > 0 && piece[n-1] != '\n'
			return uint64(bytes.Count(lines, []byte("\n")))
		}
		w.queue.wrote(0)
	}
	return 0
}

// descriptor writes to a file descriptor that may be of any kind and mode. An
// os.File would end the process when the reader of standard error is gone.
type descriptor int

func (fd descriptor) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := unix.Write(int(fd), b[written:])
		switch {
		case err == nil:
			written += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN): // somebody made it non-blocking
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return written, err
			}
		default:
			return written, err
		}
	}
	return written, nil
}
