package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

// progress draws a progress bar on a terminal. Without a terminal it draws nothing.
type progress struct {
	out  io.Writer // nil without a terminal
	what string    // name of the counted things, for an unknown total

	mu          sync.Mutex // guards the fields below
	done, total int64
	drawnAt     time.Time
	onScreen    bool
}

func newProgress(out io.Writer) *progress {
	if w, ok := out.(*visibleWriter); ok {
		out = w.out // the bar needs control characters
	}
	file, ok := out.(*os.File)
	if !ok {
		return &progress{}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return &progress{}
	}
	return &progress{out: out, drawnAt: time.Now()}
}

func (p *progress) advance(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(p.done+n, p.total)
}

// set sets the progress. A total of 0 means unknown.
func (p *progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setLocked(done, total)
}

func (p *progress) setLocked(done, total int64) {
	p.done, p.total = done, total
	if p.out == nil || time.Since(p.drawnAt) < 100*time.Millisecond || total == 0 && p.what == "" {
		return
	}
	p.drawnAt, p.onScreen = time.Now(), true
	if total == 0 {
		fmt.Fprintf(p.out, "\r%d %s\x1b[K", done, p.what)
		return
	}
	const width = 40
	full := int(width * min(done, total) / total)
	fmt.Fprintf(p.out, "\r[%s%s] %3d %%\x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*min(done, total)/total)
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onScreen {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.onScreen = false
	}
}
