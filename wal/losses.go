package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"collectord/wal/segment"
	"collectord/wal/vfs"
)

// lostName is the directory of the loss notes that wait for upload.
const lostName = "lost"

// Reasons of a LossNote.
const (
	LossDamaged = "damaged" // the bytes no longer check out; they are in the quarantine
	LossEvicted = "evicted" // deleted to make room (wal.when_full: drop_oldest)
	// LossSkipped is no loss: the disk did not give the end of a segment, seqs were
	// kept free for what might be there, and these had no record.
	LossSkipped = "skipped"
	LossMissing = "missing" // acknowledged, and not in the segment's file, as after a disk that lied about a flush
)

// LossNote says that the records FirstSeq to LastSeq will never be shipped, so
// that a hole in the numbering of the bucket explains itself.
type LossNote struct {
	Node              string
	LogID, Run        uint64 // of the segment; Run is 0 where it could not be read
	FirstSeq, LastSeq uint64
	Reason            string
	At                time.Time // when it was found, or done
	// Hours are those, since 1970, in which the segments begin that held the records;
	// at most maxHours, empty if they are not known. The storage may have such a
	// segment although it was never confirmed here: the answer was lost, or a crash
	// came first. So it is to be asked before the note is uploaded.
	Hours []int64
}

// maxHours bounds the hours of a note, so that it fits the reserve.
const maxHours = 100

// lossOf makes a note of this log.
func (b *base) lossOf(r SeqRange, reason string) LossNote {
	return LossNote{Node: b.opts.Node, LogID: b.logID, FirstSeq: r.First, LastSeq: r.Last, Reason: reason, At: time.Now()}
}

func (n LossNote) file() string {
	return fmt.Sprintf("%s-%016x", segment.SealedName(n.FirstSeq, n.LastSeq), n.Run)
}

// encode makes one line of text, like the LOG file's.
func (n LossNote) encode() []byte {
	hours := "-"
	if len(n.Hours) > 0 {
		hours = strings.Trim(strings.ReplaceAll(fmt.Sprint(n.Hours), " ", ","), "[]")
	}
	body := fmt.Sprintf("collectord-loss %d %016x %016x %d %d %s %d %s %q",
		formatVersion, n.LogID, n.Run, n.FirstSeq, n.LastSeq, n.Reason, n.At.UnixMicro(), hours, n.Node)
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), castagnoli))
}

func decodeLossNote(b []byte) (n LossNote, err error) {
	line, _ := strings.CutSuffix(string(b), "\n")
	body, sum, ok := cutLast(line, " ")
	if !ok || fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli)) != sum {
		return n, errChecksum
	}
	var version int
	var micros int64
	var hours string
	if _, err := fmt.Sscanf(body, "collectord-loss %d %x %x %d %d %s %d %s %q",
		&version, &n.LogID, &n.Run, &n.FirstSeq, &n.LastSeq, &n.Reason, &micros, &hours, &n.Node); err != nil {
		return n, err
	}
	for text := range strings.SplitSeq(strings.Trim(hours, "-"), ",") {
		if text == "" {
			continue
		}
		hour, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return n, err
		}
		n.Hours = append(n.Hours, hour)
	}
	if version != formatVersion {
		return n, fmt.Errorf("%w %d, this program reads %d", ErrVersion, version, formatVersion)
	}
	n.At = time.UnixMicro(micros).UTC()
	return n, nil
}

// losses keeps the loss notes.
type losses struct {
	*base
	waiting atomic.Int64 // notes

	mu      sync.Mutex // guards the notes' directory, and what follows
	last    LossNote
	unread  map[string]SeqRange // that the disk does not give, by file name
	foreign []string            // of a later version, or no notes; left alone
}

// reset is what a killed process does with all that a start has found.
func (l *losses) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.unread, l.foreign = LossNote{}, nil, nil
	l.waiting.Store(0)
}

// note makes a note durable. One that goes on where the last one ended
// takes its place, so that a long outage leaves one note, not thousands.
func (l *losses) note(n LossNote) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir := filepath.Join(l.dir, lostName)
	old := l.last
	hours := slices.Compact(slices.Sorted(slices.Values(slices.Concat(old.Hours, n.Hours))))
	extends := old.LastSeq+1 == n.FirstSeq && old.LogID == n.LogID && old.Run == n.Run && old.Reason == n.Reason &&
		(len(old.Hours) > 0) == (len(n.Hours) > 0) && len(hours) <= maxHours
	if extends {
		if _, err := l.disk.Stat(filepath.Join(dir, old.file())); err != nil {
			extends = false // uploaded meanwhile
		} else {
			n.FirstSeq, n.Hours = old.FirstSeq, hours
		}
	}
	if err := writeNote(l.disk, dir, n); err != nil {
		return fmt.Errorf("loss note: %w", err)
	}
	l.last = n
	if extends {
		if err := retireNote(l.disk, dir, old); err != nil { // it says nothing that is not so
			l.opts.Logger.Warn("can't delete a loss note that another stands for: both are uploaded", "trouble", "loss_note", "error", err)
			l.waiting.Add(1)
		}
		return nil
	}
	l.waiting.Add(1)
	return nil
}

// reserveName is a file in the directory of the loss notes whose room on the
// disk is taken ahead: even on a full disk one more note can be made, and so
// room by evicting what it stands for.
const (
	reserveName = "reserve"
	reserveSize = 4096 // more than a note
)

// writeNote makes the file of a note, if need be of the reserve.
func writeNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.file()), filepath.Join(dir, reserveName)
	full := d.WriteFileDurably(path, n.encode())
	if errors.Is(full, fs.ErrNotExist) { // a start could not make the directory
		full = d.MkdirDurably(dir)
		if full == nil {
			full = d.WriteFileDurably(path, n.encode())
		}
	}
	if full == nil {
		stockReserve(d, reserve)
		return nil
	}
	if !vfs.IsFull(full) {
		return full
	}
	_ = d.Remove(path + ".tmp") // what there is of it
	file, err := d.OpenWritable(reserve)
	if err != nil {
		return errors.Join(full, err)
	}
	content := n.encode()
	_, err = file.WriteAt(content, 0)
	err = vfs.Finish(file, errors.Join(err, file.Truncate(int64(len(content)))))
	if err != nil {
		return errors.Join(full, err)
	}
	return d.RenameDurably(reserve, path)
}

// retireNote deletes a note that another stands for. Its room is the reserve's,
// should that have been spent: nobody else gets it on a full disk.
func retireNote(d vfs.Disk, dir string, n LossNote) error {
	path, reserve := filepath.Join(dir, n.file()), filepath.Join(dir, reserveName)
	if _, err := d.Stat(reserve); errors.Is(err, fs.ErrNotExist) {
		if err := d.RenameNew(path, reserve); err != nil {
			return err
		}
		stockReserve(d, reserve)
		return nil
	}
	return d.Remove(path)
}

// stockReserve takes room for the reserve, if there is some.
func stockReserve(d vfs.Disk, path string) {
	if info, err := d.Stat(path); err == nil && info.Size() == reserveSize {
		return
	}
	file, err := d.Create(path)
	if errors.Is(err, fs.ErrExist) {
		file, err = d.OpenWritable(path)
	}
	if err != nil {
		return
	}
	_, err = file.WriteAt(make([]byte, reserveSize), 0)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = d.Remove(path)
	}
}

// lossesAtOnce bounds what list returns.
const lossesAtOnce = 256

// list reads the loss notes that wait for upload, the first of them by seq: more
// are returned once these are stored. A note that does not check out is moved to
// the quarantine; one that the disk does not give is left where it is.
func (l *losses) list() (notes []LossNote, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.eachNote(func(n LossNote) bool {
		notes = append(notes, n)
		return len(notes) < lossesAtOnce
	})
	if err == nil && all {
		l.waiting.Store(int64(len(notes)))
	}
	return notes, err
}

// count finds out how many notes there are, and puts their names in order.
func (l *losses) count() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(0)
	_, err := l.eachNote(func(LossNote) bool { n++; return true })
	if err == nil {
		l.waiting.Store(n)
	}
	return err
}

// eachNote reads one note after the other, by name, until each returns false. all
// reports that it did not.
func (l *losses) eachNote(each func(LossNote) bool) (all bool, err error) {
	dir := filepath.Join(l.dir, lostName)
	entries, err := l.disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) { // it could not be made, so there is none
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		scratch := strings.HasSuffix(e.Name(), ".tmp") || e.Name() == reserveName
		if scratch && !e.Type().IsRegular() {
			if err := l.putAside(path, errInTheWay); err != nil {
				return false, err
			}
		}
		if scratch || slices.Contains(l.foreign, e.Name()) {
			continue // of an interrupted write, or none
		}
		n, kept, err := l.readNote(path, e)
		if err != nil {
			return false, err
		}
		if kept && !each(n) {
			return false, nil
		}
	}
	return true, nil
}

// readNote reads a note. What is none is passed over, or moved to the quarantine.
func (l *losses) readNote(path string, e fs.DirEntry) (n LossNote, kept bool, err error) {
	if !e.Type().IsRegular() {
		l.foreign = append(l.foreign, e.Name())
		l.stray(filepath.Join(lostName, e.Name()))
		return n, false, nil
	}
	b, err := l.disk.ReadFile(path)
	if err != nil {
		l.leaveNote(path, err)
		return n, false, nil
	}
	delete(l.unread, e.Name())
	n, err = decodeLossNote(b)
	switch {
	case errors.Is(err, ErrVersion):
		l.foreign = append(l.foreign, e.Name())
		l.found(FoundLaterVersion, slog.LevelError, "left alone a loss note of a later version", "path", path)
		return n, false, nil
	case err != nil:
		l.found(FoundUnreadableNote, slog.LevelError, "set aside a loss note that can't be read", "path", path, "error", err)
		return n, false, l.putAside(path, err)
	case e.Name() != n.file():
		kept, err = l.renameNote(path, n)
		return n, kept, err
	}
	return n, true, nil
}

// leaveNote leaves alone a note that the disk does not give. Its name tells which
// seqs it stands for.
func (l *losses) leaveNote(path string, err error) {
	name := filepath.Base(path)
	if _, known := l.unread[name]; known {
		return
	}
	var r SeqRange
	if at := strings.LastIndex(name, "-"); at > 0 {
		if first, last, _, ok := parseName(name[:at]); ok {
			r = SeqRange{First: first, Last: last}
		}
	}
	if l.unread == nil {
		l.unread = map[string]SeqRange{}
	}
	l.unread[name] = r
	l.found(FoundUnreadableNote, slog.LevelError, "left a loss note that the disk does not give: it is read again at the next start (check the disk)", "path", path, "error", err)
}

// renameNote gives a note the name by which LossStored finds it. Where a file has
// that name already, this one goes to the quarantine.
func (l *losses) renameNote(path string, n LossNote) (kept bool, err error) {
	to := filepath.Join(l.dir, lostName, n.file())
	if _, err := l.disk.Stat(to); err == nil {
		return false, l.putAside(path, errors.New("another note has its name"))
	}
	l.found(FoundMisnamed, slog.LevelWarn, "the name of a loss note does not fit its content: renamed it", "path", path, "to", n.file())
	return true, l.disk.RenameDurably(path, to)
}

// stored deletes a note that the storage has confirmed.
func (l *losses) stored(n LossNote) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.disk.Remove(filepath.Join(l.dir, lostName, n.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		l.waiting.Add(-1)
	}
	return err
}

// unreadRanges lists what the notes stand for that the disk does not give.
func (l *losses) unreadRanges() (ranges []SeqRange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.unread {
		ranges = append(ranges, r)
	}
	return ranges
}

// unconfirmed is the lowest seq of a note that the storage has not confirmed.
func (l *losses) unconfirmed() (lowest uint64, err error) {
	lowest = maxSeq
	if l.waiting.Load() > 0 {
		notes, err := l.list()
		if err != nil {
			return 0, err
		}
		for _, n := range notes {
			lowest = min(lowest, n.FirstSeq)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.unread {
		lowest = min(lowest, max(1, r.First))
	}
	return lowest, nil
}

// Losses reads the loss notes that wait for upload, the first of them by seq: more
// are returned once these are stored. A note that does not check out is moved to
// the quarantine; one that the disk does not give is left where it is.
func (l *Log) Losses() ([]LossNote, error) {
	if !l.Started() {
		return nil, nil
	}
	return l.losses.list()
}

// LossStored deletes a note that the storage has confirmed.
func (l *Log) LossStored(n LossNote) error { return l.losses.stored(n) }
