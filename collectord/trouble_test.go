package main

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// newTestLog returns a logger that records its lines without their time.
func newTestLog(level slog.Level) (log *slog.Logger, h *troubleHandler, lines func() []string) {
	text := &lockedText{}
	h = newTroubleHandler(slog.NewTextHandler(text, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	return slog.New(h), h, func() []string {
		synctest.Wait() // summaries that are due are written now
		all := strings.Split(strings.TrimSuffix(text.take(), "\n"), "\n")
		if all[0] == "" {
			return nil
		}
		return all
	}
}

// lockedText is a buffer with a mutex, since timers write to it, too.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func expectLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestARepeatedFailureIsLoggedOnceThenSummarizedThenEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, lines := newTestLog(slog.LevelInfo)
		fail := func(n int) {
			for range n {
				log.Error("can't ship", "trouble", "shipping", "error", errors.New("away"), "records", 10)
				<-time.After(time.Second)
			}
		}
		fail(1)
		expectLines(t, lines(), `level=ERROR msg="can't ship" trouble=shipping error=away records=10`)
		<-time.After(time.Second / 2) // the summaries are written on full seconds
		fail(28)
		log.Info("something else")
		expectLines(t, lines(), `level=INFO msg="something else"`)
		fail(2) // the first summary is due after 30 s
		expectLines(t, lines(), `level=ERROR msg="can't ship" trouble=shipping error=away records=290 times=29`)
		<-time.After(time.Minute) // failures after the first summary are also summarized
		expectLines(t, lines(), `level=ERROR msg="can't ship" trouble=shipping error=away records=10`)
		log.Info("shipping again", "trouble", "shipping")
		expectLines(t, lines(), `level=INFO msg="shipping again" trouble=shipping times=31 lasted=1m31.5s`)
		<-time.After(time.Hour)
		expectLines(t, lines())
		fail(1)
		if got := lines(); len(got) != 1 {
			t.Errorf("a new outage is logged as %q", got)
		}
	})
}

func TestAFlappingTroubleIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, lines := newTestLog(slog.LevelInfo)
		for range 1000 {
			log.Warn("can't read", "trouble", "udp_read")
			log.Info("read again", "trouble", "udp_read")
			<-time.After(time.Millisecond)
		}
		expectLines(t, lines(), `level=WARN msg="can't read" trouble=udp_read`, `level=INFO msg="read again" trouble=udp_read times=1 lasted=0s`)
		<-time.After(time.Minute)
		expectLines(t, lines(), `level=WARN msg="can't read" trouble=udp_read times=999`, `level=INFO msg="read again" trouble=udp_read times=999 lasted=998ms`)
		<-time.After(time.Hour)
		expectLines(t, lines())
	})
}

func TestTroublesAreLimitedSeparatelyAndFlushedAtExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, h, lines := newTestLog(slog.LevelInfo)
		other := log.With("part", "x").WithGroup("g")
		for range 3 {
			log.Error("a", "trouble", "a")
			other.Error("b", "trouble", "b")
		}
		expectLines(t, lines(), `level=ERROR msg=a trouble=a`, `level=ERROR msg=b part=x g.trouble=b`)
		h.flush()
		got := lines()
		if len(got) != 2 || !strings.Contains(strings.Join(got, "\n"), "msg=a trouble=a times=2") || !strings.Contains(strings.Join(got, "\n"), "msg=b part=x g.trouble=b g.times=2") {
			t.Errorf("at exit: %q", got)
		}
		h.flush()
		expectLines(t, lines())
	})
}

func TestAHiddenTroubleEndIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _, lines := newTestLog(slog.LevelError)
		log.Error("a", "trouble", "a")
		log.Info("over", "trouble", "a")
		<-time.After(time.Minute)
		log.Error("a", "trouble", "a")
		log.Debug("nothing")
		expectLines(t, lines(), `level=ERROR msg=a trouble=a`, `level=ERROR msg=a trouble=a`)
	})
}
