package shipper

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
)

// examination is the reading of one object. Examinations begin, and are judged,
// in the order of the seqs; they are under way several at once.
type examination struct {
	log  *logbook
	run  *chapter
	span span
	key  string

	done     chan struct{} // closed when what follows is there
	contents contents
	err      error
}

// maxUnreadable is after how many objects in a row that the storage does not
// give the audit gives up.
const maxUnreadable = 20

// deep reads every object.
func (a *audit) deep(ctx context.Context, logs []*logbook) error {
	workers := a.Workers
	if workers == 0 {
		workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	started := make(chan *examination, 2*workers) // in order, for judging
	work := make(chan *examination)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			e, err := newExaminer()
			if err != nil {
				cancel(err)
				return
			}
			defer e.close()
			for x := range work {
				x.err = patiently(ctx, func() (err error) {
					x.contents, err = e.object(ctx, a.store, x.key)
					return err
				})
				close(x.done)
			}
		})
	}
	wg.Go(func() {
		defer close(started)
		defer close(work)
		for _, l := range logs {
			for _, c := range l.runs {
				for _, s := range c.spans {
					x := &examination{log: l, run: c, span: s, key: a.inventory.key(l, c, s), done: make(chan struct{})}
					select {
					case started <- x:
					case <-ctx.Done():
						return
					}
					select {
					case work <- x:
					case <-ctx.Done():
						return
					}
				}
			}
		}
	})
	var before *examination // the last of the run that was in order
	unreadable := 0
	total := a.inventory.objects - a.inventory.foreign
	for x := range started {
		select {
		case <-x.done:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		a.report.Read++
		a.Progress(a.report.Read, total)
		if before != nil && before.run != x.run {
			before = nil
		}
		if a.judgeObject(x, before) && (before == nil || x.span.first > before.span.last()) {
			before = x
		}
		if unreadable++; x.err == nil || errors.Is(x.err, ErrNotFound) {
			unreadable = 0
		}
		if unreadable == maxUnreadable {
			cancel(fmt.Errorf("%d objects in a row can't be read: %w", unreadable, x.err))
			break
		}
	}
	err := context.Cause(ctx)
	cancel(nil)
	wg.Wait()
	return err
}

// judgeObject says what is wrong with an object, and whether its ids can be
// compared with those that follow.
func (a *audit) judgeObject(x, before *examination) (ok bool) {
	c := &x.contents
	a.report.RawBytes += c.bytes
	f := x.log.about(Damaged, x.run, x.span.first, x.span.last())
	f.Keys = []string{x.key}
	kind, wrong := c.wrong(nameOfSpan(x))
	switch {
	case errors.Is(x.err, ErrNotFound):
		f.Kind, f.Reason = Vanished, "deleted while it was audited"
	case x.err != nil:
		f.Kind, f.Reason = Unreadable, x.err.Error()
	case wrong != "":
		f.Kind, f.Reason = kind, wrong
	case before != nil && x.span.first > before.span.last() && c.first != (lineID{}) && before.contents.last != (lineID{}) &&
		string(before.contents.last[:]) >= string(c.first[:]):
		f.Reason = "its first id is not above the last one of the object before"
		f.Keys = append(f.Keys, before.key)
		a.found(f)
		return true // what comes next is compared with this one
	default:
		return true
	}
	a.found(f)
	return false
}

// wrong says why contents are not what the name promises, and of which kind that
// is; empty if they are.
func (c *contents) wrong(want name) (kind Kind, reason string) {
	is, known := nameOf(c.metadata)
	switch {
	case c.truncated:
		return Truncated, c.problem
	case c.problem != "":
		return Damaged, c.problem
	case !c.hasMetadata:
		return Damaged, "it has no metadata: cut off behind the lines, or written by something else"
	case !known || is.logID != want.logID || is.run != want.run || is.first != want.first || is.last != want.last || is.node != want.node:
		return Damaged, fmt.Sprintf("it is another object under this name: log %s, run %s, seq %d to %d", c.metadata.LogID, c.metadata.Run, c.metadata.FirstSeq, c.metadata.LastSeq)
	case c.records != want.last-want.first+1:
		return Damaged, fmt.Sprintf("it holds %d records, and its name says %d", c.records, want.last-want.first+1)
	case c.sha256 != c.metadata.SHA256 || c.records != c.metadata.Records || c.bytes != c.metadata.RawBytes:
		return Damaged, "its lines are not those of its metadata: " + describe(*c)
	}
	return "", ""
}

func describe(c contents) string {
	m := c.metadata
	if c.records != m.Records || c.bytes != m.RawBytes {
		return fmt.Sprintf("%d records of %d bytes, not %d of %d", c.records, c.bytes, m.Records, m.RawBytes)
	}
	return "SHA-256 " + c.sha256 + ", not " + m.SHA256
}

func nameOfSpan(x *examination) name {
	return name{node: x.run.node, logID: x.log.id, run: x.run.run, first: x.span.first, last: x.span.last()}
}
