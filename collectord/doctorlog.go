package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"collectord/collectord/doctor"
	"collectord/collectord/units"
	"collectord/wal"
)

// logState describes the log, as far as the file names in data_dir show it.
type logState struct {
	err     error // why the log can't be read; fs.ErrNotExist: there is no log
	live    bool
	process string // id of the daemon's process, if it runs

	sealed, unread int
	records        uint64
	bytes          int64
	oldest, newest time.Time // last modification of the oldest and the newest segment
	putAside       []wal.Aside
}

// readLogState reads the state of the log without changing it. It reads no records.
func readLogState(dataDir string) (s logState) {
	log, err := wal.Inspect(dataDir)
	if err != nil {
		return logState{err: err}
	}
	s.live, s.process = log.Live(), log.Process()
	entries, err := log.Entries()
	if err != nil {
		return logState{err: err}
	}
	for _, e := range entries {
		s.bytes += e.Bytes
		switch e.State {
		case wal.StateSealed:
			s.sealed++
			s.records += e.LastSeq - e.FirstSeq + 1
			if s.oldest.IsZero() {
				s.oldest = e.Modified
			}
		case wal.StateUnread:
			s.unread++
		}
		if e.State != wal.StateNext && e.Modified.After(s.newest) {
			s.newest = e.Modified
		}
	}
	s.putAside, s.err = log.PutAside()
	return s
}

// withDiskTimeout returns the result of look, or false if the disk does not answer within
// 2*diskTimeout (10 s).
func withDiskTimeout[T any](look func() T) (found T, answered bool) {
	done := make(chan T, 1)
	go func() { done <- look() }()
	select {
	case found = <-done:
		return found, true
	case <-time.After(2 * diskTimeout):
		return found, false
	}
}

// noAnswerText describes a disk that does not answer.
func noAnswerText(path string) string {
	return fmt.Sprintf("the disk of %s did not answer within %v", path, 2*diskTimeout)
}

// readLogStateWithTimeout is readLogState with the time limit of withDiskTimeout, because a disk may hang.
func readLogStateWithTimeout(dataDir string) logState {
	s, answered := withDiskTimeout(func() logState { return readLogState(dataDir) })
	if !answered {
		s.err = errors.New(noAnswerText(dataDir))
	}
	return s
}

// oldSegmentAge is the age above which a waiting segment is a warning. Segments that
// shipper.keep retains may be older by that time.
const oldSegmentAge = time.Hour

// logChecks checks the contents of the log.
func (x *checkRun) logChecks() []doctor.Check {
	s := x.log
	switch {
	case errors.Is(s.err, fs.ErrNotExist):
		return []doctor.Check{doctor.Fine("log.daemon", "there is no log yet: the first start makes it")}
	case s.err != nil:
		return []doctor.Check{doctor.Fail("log.daemon", s.err.Error(), "see to the disk, or run this as root")}
	}
	all := s.checks(x.draft.Config.Shipper.Keep, time.Now())
	if !s.live || len(x.draft.Config.Admin.Listen) == 0 {
		return all
	}
	status, err := askStatus(x.ctx, x.draft.Config)
	if err != nil {
		all[0] = doctor.Warn("log.daemon", err.Error(), "see systemctl status collectord and its journal; restart the daemon if it hangs")
		return all
	}
	if ours := x.destinationName(); x.draft.Valid("shipper.destination") && status.Destination.Where != ours {
		all[0] = doctor.Warn("log.daemon", fmt.Sprintf("the running daemon (process %s) ships to %s, and this configuration names %s, which is what is checked below", s.process, status.Destination.Where, ours),
			"give doctor the configuration of the daemon (its --config, flags and variables); if the configuration has changed, restart the daemon")
	}
	return all
}

// destinationName returns the configured destination as the daemon reports its own.
func (x *checkRun) destinationName() string {
	if store, err := openStoreToRead(x.draft.Config); err == nil {
		return store.String()
	}
	return x.draft.Config.Shipper.Destination // the folder does not exist yet
}

func (s logState) checks(keep time.Duration, now time.Time) []doctor.Check {
	daemon := doctor.Fine("log.daemon", "no daemon is running here")
	if s.live {
		daemon = doctor.Fine("log.daemon", "a daemon is running (process "+s.process+"; collectord status)")
	}
	all := []doctor.Check{daemon, doctor.Fine("log.segments", fmt.Sprintf("%s with %s, %s in all", plural(s.sealed, "sealed segment"), formatRecords(s.records), units.Bytes(s.bytes)))}
	const name = "log.oldest"
	switch age := now.Sub(s.oldest); {
	case s.sealed == 0:
		all = append(all, doctor.Fine(name, "no segment waits"))
	case !s.live:
		all = append(all, doctor.Warn(name, "the oldest segment has waited since "+s.oldest.UTC().Format(time.DateTime)+", and no daemon is running", "start the daemon (systemctl start collectord), or ship what is there (collectord ship)"))
	case age > oldSegmentAge+keep:
		all = append(all, doctor.Warn(name, fmt.Sprintf("the oldest segment has waited for %v", age.Round(time.Minute)), "see the checks of the storage below, and collectord status"))
	default:
		all = append(all, doctor.Fine(name, fmt.Sprintf("the oldest segment is %v old; a shipped segment stays for %v (shipper.keep)", age.Round(time.Second), keep)))
	}
	if s.unread > 0 {
		all = append(all, doctor.Fail("log.unread", plural(s.unread, "part")+" of segments can't be read", "see to the disk (dmesg), and to the owner and mode of the files in wal; a start or collectord wal repair reads them again"))
	}
	if n := len(s.putAside); n > 0 {
		var paths []string
		for _, a := range s.putAside[:min(n, 3)] {
			paths = append(paths, a.Path)
		}
		all = append(all, doctor.Warn("log.put_aside", fmt.Sprintf("%d put aside: %s", n, strings.Join(paths, ", ")), "look at each (collectord wal export), then collectord wal acknowledge"))
	} else {
		all = append(all, doctor.Fine("log.put_aside", "nothing was put aside"))
	}
	return all
}

// ownerName returns the name of a file's owner.
func ownerName(info os.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return userName(int(st.Uid))
	}
	return "an unknown user"
}

func modeText(info os.FileInfo) string { return fmt.Sprintf("%04o", info.Mode().Perm()) }

// existingPart returns the longest part of path that exists.
func existingPart(path string) string {
	for {
		if _, err := statWithTimeout(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// sameDisk reports whether the existing parts of two paths are on one file system.
func sameDisk(a, b string) bool {
	var of [2]uint64
	for i, path := range []string{a, b} {
		info, err := statWithTimeout(existingPart(path))
		if err != nil {
			return false
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			of[i] = st.Dev
		}
	}
	return of[0] == of[1]
}
