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
	// logQueueBytes limits the queued lines. The lines being written may need as much
	// memory again.
	logQueueBytes = 256 << 10

	// logChunkBytes is the number of bytes in one write. A pipe accepts this much atomically
	// (PIPE_BUF), so no text of another writer can interrupt it.
	logChunkBytes = 4 << 10

	// A process that ends waits at most logFlushTimeout for its log. It gives up earlier if
	// logStallTimeout passes without a write.
	logStallTimeout = time.Second
	logFlushTimeout = 3 * time.Second
)

// logQueue writes log lines in order from its own goroutine, so that a slow or missing
// reader never blocks the code that logs. It drops lines while the queue is full. A
// later line reports how many were dropped or could not be written.
type logQueue struct {
	out    io.Writer
	report func(message string, lines uint64) []byte // formats a line about missing lines
	wake   chan struct{}                             // signals that lines are queued

	mu      sync.Mutex // guards the fields below; never held during a write
	lines   []byte     // queued
	dropped uint64     // lines dropped since the queue became full
	writing bool
	writes  uint64          // written so far
	drained []chan struct{} // closed when all lines are written
	counts  admin.LoggerSnapshot
}

func newLogQueue(out io.Writer, report func(string, uint64) []byte) *logQueue {
	q := &logQueue{out: out, report: report, wake: make(chan struct{}, 1)}
	go (&logWriter{queue: q}).run()
	return q
}

// Write queues one or more lines. It never blocks and never fails.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// While dropped lines are unreported, no later line may enter: the report marks the
	// place of the gap.
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

// snapshot returns the numbers of lines missing from the log.
func (q *logQueue) snapshot() admin.LoggerSnapshot {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}

// take returns the queued lines, and how many were dropped after them. The queue reuses
// buffer for the next lines.
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

// countWrite counts a written piece, and the lines that could not be written.
func (q *logQueue) countWrite(failed uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writes++
	q.counts.Failed += failed
}

// flush waits until all lines are written. It gives up at the timeout, or when
// logStallTimeout passes without a written piece.
func (q *logQueue) flush(timeout time.Duration) {
	q.mu.Lock()
	if !q.writing && len(q.lines) == 0 {
		q.mu.Unlock()
		return
	}
	done, before := make(chan struct{}), q.writes
	q.drained = append(q.drained, done)
	q.mu.Unlock()

	expired := time.After(timeout)
	stallCheck := time.NewTicker(logStallTimeout)
	defer stallCheck.Stop()
	for {
		select {
		case <-done:
			return
		case <-expired:
			return
		case <-stallCheck.C:
		}
		q.mu.Lock()
		now := q.writes
		q.mu.Unlock()
		if now == before {
			return
		}
		before = now
	}
}

// logWriter is the only writer to the output. It runs in the queue's goroutine.
type logWriter struct {
	queue           *logQueue
	dropped, failed uint64 // missing lines that are not reported yet
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
			w.reportMissing() // a report that failed before
			failed := w.write(lines)
			w.queue.countWrite(failed)
			w.failed += failed
			w.dropped += dropped
			w.reportMissing()
		}
	}
}

// reportMissing reports the missing lines. It keeps the counts if that fails, for the
// next attempt.
func (w *logWriter) reportMissing() {
	if w.failed > 0 && w.write(w.queue.report("log lines are missing here: they could not be written", w.failed)) == 0 {
		w.failed = 0
	}
	if w.dropped > 0 && w.write(w.queue.report("log lines are missing here: they came faster than they were read", w.dropped)) == 0 {
		w.dropped = 0
	}
}

// write writes lines and returns how many could not be written. It keeps no failed
// lines, but a later write may succeed, such as when the disk has space again.
func (w *logWriter) write(lines []byte) (missing uint64) {
	for len(lines) > 0 {
		piece := lines[:min(len(lines), logChunkBytes)]
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
		w.queue.countWrite(0)
	}
	return 0
}

// fdWriter writes to a file descriptor of any kind, blocking or not. An os.File would
// end the process by SIGPIPE if the reader of standard error is gone.
type fdWriter int

func (fd fdWriter) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := unix.Write(int(fd), b[written:])
		switch {
		case err == nil:
			written += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN): // another process made it non-blocking
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return written, err
			}
		default:
			return written, err
		}
	}
	return written, nil
}
