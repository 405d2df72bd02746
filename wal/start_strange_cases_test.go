package wal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// trialStart is a data directory with something unexpected in it.
type trialStart struct {
	name      string
	needsRoot bool   // only root can make it
	keptPlace string // path whose files must be kept
	lost      []int
	make      func(data string) error
	noNotes   bool // no record may be noted as lost
	repair    func(data string) error
}

func unexpectedStarts() (all []trialStart) {
	for _, p := range unexpectedPlaces {
		for _, s := range entryKinds() {
			c := trialStart{name: p.path + " is " + s.name, needsRoot: s.needsRoot, lost: p.lost}
			scratch := p.path == "LOCK" || strings.HasSuffix(p.path, ".tmp") || strings.HasSuffix(p.path, "reserve") ||
				p.path == "wal" && s.name == "a link to what was there" || p.path == "wal/next/00000000000000000001" || p.path == "wal/next" && strings.Contains(s.name, "what was there")
			if !scratch {
				c.keptPlace = p.path
			}
			c.make = func(data string) error {
				path := filepath.Join(data, p.path)
				return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), s.make(path))
			}
			unreadable := s.name == "an unreadable entry" || s.name == "an entry of another user"
			switch {
			case p.path == "wal" && s.name == "a link to what was there":
				c.lost = nil
			case p.path == "wal" && (unreadable || strings.Contains(s.name, "link")):
				// The administrator may have moved the directory, or another user owns
				// it, so nothing may replace it.
				c.repair = func(data string) error {
					path := filepath.Join(data, p.path)
					// The log retries meanwhile, and may be the first to make the
					// directory.
					return errors.Join(os.Rename(path, path+".old"), os.MkdirAll(path, 0o700))
				}
			}
			all = append(all, c)
		}
	}
	all = append(all, moreStarts()...)
	some := all[:0]
	for i, c := range all {
		if *everyStart || i%6 == i/len(entryKinds())%6 {
			some = append(some, c)
		}
	}
	return some
}

func moreStarts() []trialStart {
	segment := "00000000000000000003-00000000000000000004"
	all := []trialStart{
		{name: "next copies a sealed segment", make: func(data string) error {
			next := filepath.Join(data, "wal/next")
			return errors.Join(os.RemoveAll(next), os.CopyFS(next, os.DirFS(filepath.Join(data, "wal", segment))))
		}},
		{name: "next copies the active segment", make: func(data string) error {
			next := filepath.Join(data, "wal/next")
			return errors.Join(os.RemoveAll(next), os.CopyFS(next, os.DirFS(filepath.Join(data, "wal/00000000000000000007"))))
		}},
		{name: "the file of a sealed segment was being moved to another name", noNotes: true, make: func(data string) error {
			return moveSegmentFile(filepath.Join(data, "wal", segment), filepath.Join(data, "wal", segment+".moving"))
		}},
		{name: "a sealed segment was being moved to another name", noNotes: true, make: func(data string) error {
			return os.Rename(filepath.Join(data, "wal", segment), filepath.Join(data, "wal", segment+".moving"))
		}},
		{name: "a sealed segment was being renamed", noNotes: true, make: func(data string) error {
			return os.Rename(filepath.Join(data, "wal", segment), filepath.Join(data, "wal", segment+".renaming"))
		}},
		{name: "the file of a segment was being moved to its sealed name", noNotes: true, make: func(data string) error {
			return moveSegmentFile(filepath.Join(data, "wal/00000000000000000007"), filepath.Join(data, "wal/00000000000000000007.moving"))
		}},
		{name: "the file of a segment was to be moved to its sealed name", noNotes: true, make: func(data string) error {
			return os.Mkdir(filepath.Join(data, "wal/00000000000000000007.moving"), 0o700)
		}},
		{name: "a sealed segment and the loss notes are gone", lost: []int{2, 3}, make: func(data string) error {
			return errors.Join(os.RemoveAll(filepath.Join(data, "wal/lost")), os.Remove(filepath.Join(data, "wal", segment, "00000000000000000001")))
		}},
		{name: "a sealed segment is gone and a file is in the place of the loss notes", lost: []int{2, 3}, make: func(data string) error {
			lost := filepath.Join(data, "wal/lost")
			return errors.Join(os.RemoveAll(lost), os.WriteFile(lost, nil, 0o600), os.Remove(filepath.Join(data, "wal", segment, "00000000000000000001")))
		}},
		{name: "everything in wal is another user's", needsRoot: true, lost: []int{0, 1, 2, 3, 4, 5, 6}, make: func(data string) error {
			entries, err := os.ReadDir(filepath.Join(data, "wal"))
			for _, e := range entries {
				path := filepath.Join(data, "wal", e.Name())
				err = errors.Join(err, os.Lchown(path, 0, 0), os.Chmod(path, 0o700))
			}
			return err
		}},
	}
	for _, name := range []string{
		"18446744073709551615", "09223372036854775807", "09223372036854775806", "04611686018427387904", "09223372036854775806-09223372036854775807",
		"00000000000000000008-09223372036854775807", "00000000000000000008-18446744073709551615",
	} {
		for _, ending := range []string{"", ".gone", ".evicted", ".damaged", ".unread", ".tail", ".lost", ".moving", ".renaming"} {
			if ending != "" && !strings.Contains(name, "-") && ending != ".gone" && ending != ".moving" && ending != ".renaming" {
				continue
			}
			all = append(all, trialStart{name: name + ending, make: func(data string) error {
				dir := filepath.Join(data, "wal", name+ending)
				return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "00000000000000000001"), []byte(strayText), 0o600))
			}})
		}
	}
	return all
}

// moveSegmentFile moves the file of a segment to a new directory, as on a file system that
// renames no directory.
func moveSegmentFile(from, to string) error {
	return errors.Join(os.Mkdir(to, 0o700), os.Rename(filepath.Join(from, "00000000000000000001"), filepath.Join(to, "00000000000000000001")))
}
