package wal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
	"collectord/wal/vfs"
)

// watchedBucket is a folder that records its objects, and checks which seqs they claim
// to be confirmed.
type watchedBucket struct {
	bucket.Store
	trial *trial

	mu     sync.Mutex // guards the fields below
	stored map[uint64]bool
	keys   map[uint64]string // by seq
	noted  map[uint64]string // reasons
}

func (b *watchedBucket) Put(ctx context.Context, o *bucket.Object) error {
	if b.trial.isDead() {
		return errors.New("the process is dead")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for seq := uint64(1); seq < min(o.ConfirmedBelow, math.MaxInt32); seq++ {
		if _, noted := b.noted[seq]; !noted && !b.stored[seq] {
			b.trial.t.Errorf("%s claims that everything below %d is confirmed, but %d is not in the bucket", o.Key, o.ConfirmedBelow, seq)
			break
		}
	}
	err := b.Store.Put(ctx, o)
	if err != nil && !errors.Is(err, bucket.ErrExists) {
		return err
	}
	if strings.HasPrefix(o.Key, "dt=") {
		for seq := o.FirstSeq; seq <= o.LastSeq; seq++ {
			b.stored[seq] = true
			if other, ok := b.keys[seq]; ok && other != o.Key {
				b.trial.t.Errorf("record %d is in %s and in %s", seq, other, o.Key)
			}
			b.keys[seq] = o.Key
		}
		return err
	}
	var note struct {
		First  uint64 `json:"first_seq"`
		Last   uint64 `json:"last_seq"`
		Reason string
	}
	body := make([]byte, o.Size)
	if _, err := o.Body.ReadAt(body, 0); err != nil {
		b.trial.t.Error(err)
	}
	if err := json.Unmarshal(body, &note); err != nil {
		b.trial.t.Error(err)
	}
	for seq := note.First; seq <= note.Last; seq++ {
		b.noted[seq] = note.Reason
	}
	return err
}

// makeKilledLog makes a directory as kill -9 would leave it after n records and
// beforeCopy.
func makeKilledLog(t *testing.T, dir string, n int, beforeCopy func(l *wal.Log, data string)) {
	t.Helper()
	data := filepath.Join(scratchDir(t), "data")
	l, err := wal.Open(data, wal.Options{Node: "edge-1", SegmentSize: 4 << 10, SealAfter: time.Hour, MachineID: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendPairs(t, l, n)
	if beforeCopy != nil {
		beforeCopy(l, data)
	}
	copyLog(t, data, dir)
}

func copyLog(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to, "wal"), os.DirFS(filepath.Join(from, "wal"))); err != nil {
		t.Fatal(err)
	}
}

func sealedName(first, last uint64) string { return fmt.Sprintf("%020d-%020d", first, last) }

// makeOpenLog makes a log with sealed segments up to record 6, and record 7 in the
// active one.
func makeOpenLog(t *testing.T, dir string) {
	t.Helper()
	makeKilledLog(t, dir, 7, nil)
}

// makeShortenedLog makes a log that lost the records 3 and 4 at the end of an unsealed
// segment, although the next one exists. The segments have the records 1 to 4 and 5 to
// 6.
func makeShortenedLog(t *testing.T, dir string) {
	t.Helper()
	data := filepath.Join(scratchDir(t), "data")
	l, err := wal.Open(data, wal.Options{Node: "edge-1", SegmentSize: 64 << 10, SealAfter: time.Hour, MachineID: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join("wal", fmt.Sprintf("%020d", 1), fmt.Sprintf("%020d", 1))
	var whole []byte
	for i := range 7 {
		if err := l.Append(context.Background(), wal.Record{Usage: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if whole, err = os.ReadFile(filepath.Join(data, file)); err != nil {
				t.Fatal(err)
			}
		}
		if i == 3 {
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyLog(t, data, dir)
	from := filepath.Join(dir, "wal", sealedName(1, 4))
	if err := os.Rename(from, filepath.Join(dir, filepath.Dir(file))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// spoilPages makes pages of the scenario's segment unreadable, under any name of its
// file.
func (tr *trial) spoilPages(dir string) {
	tr.t.Helper()
	if tr.scenario.unreadSegment == "" {
		return
	}
	info, err := os.Stat(filepath.Join(dir, "wal", tr.scenario.unreadSegment, fmt.Sprintf("%020d", 1)))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.inode = info.Sys().(*syscall.Stat_t).Ino
}

func (tr *trial) read(file vfs.File, p []byte, off int64) (int, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	tr.mu.Lock()
	bad := tr.inode == info.Sys().(*syscall.Stat_t).Ino
	tr.mu.Unlock()
	if !bad {
		return file.ReadAt(p, off)
	}
	if len(tr.scenario.unreadPages) == 0 {
		return readExcept(1)(file, p, off)
	}
	return readExcept(tr.scenario.unreadPages...)(file, p, off)
}

// readExcept reads files except for some of their pages, which must be sorted.
func readExcept(pages ...int64) func(file vfs.File, p []byte, off int64) (int, error) {
	const size = 4096
	return func(file vfs.File, p []byte, off int64) (int, error) {
		info, err := file.Stat()
		if err != nil {
			return 0, err
		}
		end := min(off+int64(len(p)), info.Size())
		for _, page := range pages {
			if from := page * size; off < from+size && from < end {
				n, _ := file.ReadAt(p[:max(0, from-off)], off)
				return n, &os.PathError{Op: "read", Path: file.Name(), Err: syscall.EIO}
			}
		}
		return file.ReadAt(p, off)
	}
}

// unreadRecords returns the number of records that the next start reads again.
func (tr *trial) unreadRecords() (n uint64) {
	for _, r := range tr.log.Unread() {
		n += r.Last - r.First + 1
	}
	return n
}

// makeOneSegmentLog makes a log of one sealed segment.
func makeOneSegmentLog(t *testing.T, dir string) {
	t.Helper()
	data := filepath.Join(scratchDir(t), "data")
	l, err := wal.Open(data, wal.Options{Node: "edge-1", SegmentSize: 64 << 10, SealAfter: time.Hour, MachineID: "/nonexistent"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 6 {
		appendOne(t, l, i)
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	copyLog(t, data, dir)
}

// makeDamagedLog makes a log of one segment whose second and last records are damaged.
func makeDamagedLog(t *testing.T, dir string) {
	t.Helper()
	makeOneSegmentLog(t, dir)
	for _, at := range []string{`"n":1,`, `"n":5,`} {
		flipBit(t, filepath.Join(dir, "wal", sealedName(1, 6), fmt.Sprintf("%020d", 1)), at)
	}
}

// makeUnreadLog makes a log that was killed after the disk could not read record 4.
func makeUnreadLog(t *testing.T, dir string) {
	t.Helper()
	makeKilledLog(t, dir, 6, nil)
	data := filepath.Join(scratchDir(t), "data")
	copyLog(t, dir, data)
	l, err := wal.Open(data, wal.Options{Node: "edge-1", SegmentSize: 4 << 10, MachineID: "/nonexistent"}.WithReads(readExcept(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	segments, _ := l.Sealed()
	for range 3 {
		_, err = l.Salvage(segments[1])
	}
	if err != nil || len(l.Unread()) != 1 {
		t.Fatal(err, l.Unread())
	}
	if err := os.RemoveAll(filepath.Join(dir, "wal")); err != nil {
		t.Fatal(err)
	}
	copyLog(t, data, dir)
}

// makeGivenUpLog makes a log that was killed after it had decided that record 4 is
// lost.
func makeGivenUpLog(t *testing.T, dir string) {
	t.Helper()
	makeUnreadLog(t, dir)
	if err := os.Rename(filepath.Join(dir, "wal", sealedName(4, 4)+".unread"), filepath.Join(dir, "wal", sealedName(4, 4)+".lost")); err != nil {
		t.Fatal(err)
	}
}

// makeEvictingLog makes a log that was killed after it had decided to evict records 1
// and 2.
func makeEvictingLog(t *testing.T, dir string) {
	t.Helper()
	makeKilledLog(t, dir, 6, nil)
	if err := os.Rename(filepath.Join(dir, "wal", sealedName(1, 2)), filepath.Join(dir, "wal", sealedName(1, 2)+".evicted")); err != nil {
		t.Fatal(err)
	}
}

// makeSalvagingLog makes a log that was killed after it had replaced the damaged
// segment of records 3 and 4 by one with record 3.
func makeSalvagingLog(t *testing.T, dir string) {
	t.Helper()
	makeKilledLog(t, dir, 6, func(l *wal.Log, data string) {
		file := filepath.Join(data, "wal", sealedName(3, 4), fmt.Sprintf("%020d", 1))
		flipBit(t, file, `"n":3,`)
		original := filepath.Join(dir, "wal", sealedName(3, 4)+".damaged")
		if err := os.CopyFS(original, os.DirFS(filepath.Dir(file))); err != nil {
			t.Fatal(err)
		}
		segments, _ := l.Sealed()
		if changed, err := l.Salvage(segments[1]); err != nil || !changed {
			t.Fatal(changed, err)
		}
		notes, err := l.Losses()
		if err != nil || len(notes) != 1 {
			t.Fatal(notes, err)
		}
		if err := l.LossStored(notes[0]); err != nil {
			t.Fatal(err)
		}
	})
}
