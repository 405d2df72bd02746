package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

// tamper changes the log directory durably while no log is open, as people, other
// programs and faulty disks do. This loses no records except those that it enters in
// damagedUsages.
func (s *life) tamper() {
	d := s.disk
	d.SetPause(nil)
	d.SetIntercept(nil)
	d.SetChanged(nil)
	for range 1 + s.rand.IntN(5) {
		s.tamperOnce(vfs.Disk{FS: d})
	}
	s.attach(d)
}

func (s *life) tamperOnce(d vfs.Disk) {
	dir := filepath.Join(simulatedDir, "wal")
	entries, err := d.List(dir)
	if err != nil {
		return // the log has no directory yet
	}
	var sealed, unsealed []string
	next := uint64(1)
	for _, e := range entries {
		first, last, ending, ok := parseName(e.Name())
		if !ok {
			continue
		}
		if next = max(next, first, last+1); ending != "" || !e.IsDir() {
			continue
		}
		if last > 0 {
			sealed = append(sealed, e.Name())
		} else if _, err := d.Stat(filepath.Join(dir, e.Name(), segment.FileName)); err == nil { // a stray directory has no such file
			unsealed = append(unsealed, e.Name())
		}
	}
	// Sometimes an empty active segment gets its .gone name, as by an interrupted removal. That
	// name still shows the next seq.
	empty := filepath.Join(dir, segment.ActiveName(next))
	if info, err := d.Stat(filepath.Join(empty, segment.FileName)); err == nil && info.Size() < 64 && s.rand.IntN(2) == 0 {
		_ = d.RenameDurably(empty, empty+goneSuffix)
	}
	inRange := func() string { // returns a name within the records of another segment
		var first, last uint64
		all := sealed
		if (s.faults == nil || s.profile.blind) && !s.profile.fills { // otherwise the remains of a failed commit may count as records
			all = slices.Concat(sealed, unsealed)
		}
		if len(all) > 0 {
			path := filepath.Join(dir, all[s.rand.IntN(len(all))], segment.FileName)
			if w, err := segment.All(0).Scan(d, path); err == nil && len(w.Pieces) > 0 && d.SyncFile(path) == nil { // otherwise a crash may lose them
				first, last = w.Pieces[0].First, w.Pieces[0].Last
			}
		}
		if last <= first {
			return "x" + asideMark + "2"
		}
		return segment.ActiveName(first + 1 + uint64(s.rand.IntN(int(last-first))))
	}
	any := func(names []string) string {
		if len(names) == 0 {
			return "x" + asideMark + "1" // the name of a segment would change the next seq
		}
		return names[s.rand.IntN(len(names))]
	}
	switch s.rand.IntN(13) {
	case 0, 8, 9: // a file in place of a directory
		s.putFile(d, dir, any([]string{
			nextName, salvageName, quarantineName, lostName, segment.ActiveName(next), any(sealed) + goneSuffix, "x" + asideMark + "0",
			"../" + spoolName, "../x" + asideMark + "0", lostName + "/x",
		}))
	case 1, 10, 11: // a directory in place of a file or directory
		place := filepath.Join(dir, any([]string{
			identityName, identityName + ".tmp", lostName + "/" + reserveName, lostName + "/x.tmp", segment.ActiveName(next), any(sealed) + goneSuffix, nextName, salvageName,
			"x" + asideMark + "0", inRange(), inRange(),
		}))
		if !diskContains(s.disk, place, []byte("stranger")) && !strings.HasSuffix(place, goneSuffix) {
			_ = d.Remove(place)
		}
		if d.Mkdir(place) == nil {
			s.putFile(d, place, "x")
		}
	case 2: // a file beside a segment's file
		s.putFile(d, filepath.Join(dir, any(slices.Concat(sealed, unsealed))), "x")
	case 3: // a missing or wrong LOG
		if !diskContains(s.disk, filepath.Join(dir, identityName), []byte("stranger")) {
			_ = d.Remove(filepath.Join(dir, identityName))
		}
		if s.rand.IntN(2) == 0 {
			s.putFile(d, dir, identityName)
		}
	case 4:
		s.misname(d, dir, sealed)
	case 5:
		s.misnameNote(d, filepath.Join(dir, lostName))
	case 6: // a segment without its file
		if s.damagedUsages == nil && !s.misnamed && len(sealed) > 0 {
			s.cutOrDelete(d, filepath.Join(dir, any(sealed), segment.FileName), 0)
		}
	case 7: // a disk that lost durable data
		if n := len(unsealed); s.damagedUsages == nil && n > 1 && !s.misnamed {
			s.cutOrDelete(d, filepath.Join(dir, unsealed[s.rand.IntN(n-1)], segment.FileName), 1+s.rand.IntN(2000))
		}
	case 12: // a disk that wrote a sector to the wrong place
		if s.damagedUsages == nil && !s.misnamed && len(unsealed) > 0 && s.shippedSector != nil {
			s.damagedUsages, s.remainingUsages, s.truncated = map[int]bool{}, map[int]bool{}, true
			_ = s.disk.Edit(filepath.Join(dir, unsealed[s.rand.IntN(len(unsealed))], segment.FileName), func(b []byte) []byte {
				was := bytes.Clone(b)
				copy(b, s.shippedSector)
				s.recordDamage(was, b)
				return b
			})
		}
	}
	for _, in := range []string{simulatedDir, dir, filepath.Join(dir, lostName)} {
		_ = d.SyncDir(in)
	}
}

// tamperWhileRunning puts an entry in the way of an open log.
func (s *life) tamperWhileRunning() {
	dir := filepath.Join(simulatedDir, "wal")
	places := []string{salvageName}
	if all, _ := s.log.Sealed(); len(all) > 0 {
		name := filepath.Base(all[s.rand.IntN(len(all))].dir)
		places = append(places, name+"/x", name+goneSuffix, name+goneSuffix+"/x")
	}
	place := filepath.Join(dir, places[s.rand.IntN(len(places))])
	d := vfs.Disk{FS: s.disk}
	if filepath.Base(place) == "x" {
		_ = d.Mkdir(filepath.Dir(place))
	}
	s.putFile(d, filepath.Dir(place), filepath.Base(place))
}

// putFile creates a stray file, unless the name is taken.
func (s *life) putFile(d vfs.Disk, dir, name string) {
	path := filepath.Join(dir, name)
	if info, err := d.Stat(path); err == nil && info.IsDir() && d.RemoveDir(path) != nil {
		return // the directory is not empty
	}
	f, err := d.Create(path)
	if err != nil {
		return
	}
	text := fmt.Sprintf("stranger %d at %s\n", len(s.history.now().strayTexts)+1, path)
	_, err = f.WriteAt([]byte(text), 0)
	if err = vfs.Finish(f, err); errors.Join(err, d.SyncDir(dir), d.SyncDir(filepath.Dir(dir))) == nil {
		s.history.addStray(text)
	}
}

// misname exchanges the names of two segments, or changes a digit of one. Their
// neighbours prove the right names.
func (s *life) misname(d vfs.Disk, dir string, sealed []string) {
	if len(sealed) < 3 || s.damagedUsages != nil {
		return
	}
	i := s.rand.IntN(len(sealed) - 2)
	for n := i; n < i+2; n++ {
		_, last, _, _ := parseName(sealed[n])
		if first, _, _, _ := parseName(sealed[n+1]); first != last+1 {
			return
		}
	}
	s.misnamed = true
	a, b := filepath.Join(dir, sealed[i]), filepath.Join(dir, sealed[i+1])
	if s.rand.IntN(2) == 0 {
		b := []byte(sealed[i])
		at := s.rand.IntN(len(b)-2) + 2
		b[at] = "0123456789x"[s.rand.IntN(11)]
		_ = d.RenameNew(a, filepath.Join(dir, string(b)))
		return
	}
	_, _, _ = d.Rename(a, a+"x"), d.Rename(b, a), d.Rename(a+"x", b)
}

// misnameNote gives a loss note a wrong name.
func (s *life) misnameNote(d vfs.Disk, dir string) {
	entries, _ := d.List(dir)
	for _, e := range entries {
		if first, last, _, ok := parseName(strings.SplitN(e.Name(), "-0", 2)[0]); ok && first > 0 && last > 0 {
			_ = d.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, e.Name()[:len(e.Name())-1]+"x"))
			return
		}
	}
}

// cutOrDelete cuts a file to size bytes, or deletes it.
func (s *life) cutOrDelete(d vfs.Disk, path string, size int) {
	s.damagedUsages, s.remainingUsages = map[int]bool{}, map[int]bool{}
	_ = s.disk.Edit(path, func(b []byte) []byte {
		s.recordDamage(b, b[:min(size, len(b))])
		return b[:min(size, len(b))]
	})
	if size == 0 {
		_, _ = d.Remove(path), d.SyncDir(filepath.Dir(path))
	}
	s.truncated = true
}

// checkStrayFiles asserts that no stray file was deleted.
func checkStrayFiles(d *simdisk.Disk, p past, fail func(string, ...any)) {
	for _, text := range p.strayTexts {
		if !diskContains(d, "/", []byte(text)) {
			fail("stray file %q is missing", text)
			return
		}
	}
}

// diskContains reports whether a file below dir contains b.
func diskContains(d *simdisk.Disk, dir string, b []byte) (found bool) {
	d.Walk(dir, func(_ string, data []byte) { found = found || bytes.Contains(data, b) })
	return found
}
