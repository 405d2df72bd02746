package wal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"collectord/wal/vfs"
)

// identityName is the file that contains the log's identity.
const identityName = "LOG"

// identity is the content of LOG, one line of text: "collectord-log 1 LOGID MACHINE CRC\n".
// MACHINE is a hash of the machine id, which distinguishes a copied disk image from the
// original.
type identity struct {
	logID   uint64
	machine string
}

func (id identity) encode() []byte {
	body := fmt.Sprintf("collectord-log %d %016x %s", formatVersion, id.logID, id.machine)
	return fmt.Appendf(nil, "%s %08x\n", body, crc32.Checksum([]byte(body), castagnoli))
}

func decodeIdentity(b []byte) (id identity, err error) {
	line, ok := strings.CutSuffix(string(b), "\n")
	body, sum, okSum := cutLast(line, " ")
	if !ok || !okSum || fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli)) != sum {
		return id, errChecksum
	}
	var version int
	if _, err := fmt.Sscanf(body, "collectord-log %d ", &version); err != nil {
		return id, err
	}
	if version != formatVersion {
		return id, fmt.Errorf("%w %d, this program reads %d", ErrVersion, version, formatVersion)
	}
	_, err = fmt.Sscanf(body, "collectord-log %d %x %s", &version, &id.logID, &id.machine)
	return id, err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// loadIdentity reads LOG, and writes it if it is missing, damaged or a copy.
// logIDOfSegment returns the log id of a readable segment header, if there is one.
func (l *Log) loadIdentity(logIDOfSegment func() (uint64, bool)) error {
	logID, ok, err := l.readIdentity(logIDOfSegment)
	if err != nil {
		return err
	}
	l.logID = logID
	if ok {
		return nil
	}
	path := filepath.Join(l.dir, identityName)
	if err := l.disk.WriteFileDurably(path, identity{logID, machineHash(l.opts.MachineID)}.encode()); err != nil {
		l.identityUnsaved = true // the next start reads the log id from a segment's header again
		l.opts.Logger.Error("can't write the log's identity: the next start tries again", "path", path, "error", err)
	}
	return nil
}

// readIdentity returns the log id, and whether LOG may stay as it is.
func (l *Log) readIdentity(logIDOfSegment func() (uint64, bool)) (logID uint64, ok bool, err error) {
	path := filepath.Join(l.dir, identityName)
	machine := machineHash(l.opts.MachineID)
	var b []byte
	var errRead error
	for range scanAttempts { // one error must not replace the log id
		if b, errRead = l.disk.ReadFile(path); !vfs.IsUnreadable(errRead) {
			break
		}
	}
	missing := errors.Is(errRead, fs.ErrNotExist)
	inaccessible := errRead != nil && !missing && !vfs.IsUnreadable(errRead)
	if inaccessible && (isTransient(errRead) || !l.tolerates(errRead)) { // LOG exists, so a new log id would be wrong
		return 0, false, errRead
	}
	id, err := decodeIdentity(b)
	if errRead != nil {
		err = errRead
	}
	switch {
	case err == nil && (id.machine == machine || machine == noMachineID):
		return id.logID, true, nil
	case err == nil && id.machine == noMachineID: // the machine now has an id
		return id.logID, false, nil
	case err == nil:
		logID = randomUint64()
		l.reportFinding(FoundCopy, slog.LevelWarn, "the log was copied from another machine: it continues under a new log id",
			"old", fmt.Sprintf("%016x", id.logID), "new", fmt.Sprintf("%016x", logID))
		return logID, false, nil
	case errors.Is(err, ErrVersion):
		return 0, false, err
	}
	logID, found := logIDOfSegment()
	if !found {
		logID = randomUint64()
	}
	if found || !missing {
		l.reportFinding(FoundIdentity, slog.LevelWarn, "rebuilt the log's identity", "path", path, "log_id", fmt.Sprintf("%016x", logID),
			"from_segment", found, "reason", err)
	}
	if !missing {
		err = l.putAside(path, err)
	} else {
		err = nil
	}
	return logID, false, err
}

// noMachineID represents a host without a machine id.
const noMachineID = "-"

// machineHash returns a hash of the machine id, which must be kept confidential
// (machine-id(5)), or noMachineID.
func machineHash(path string) string {
	b, err := os.ReadFile(path)
	id := strings.TrimSpace(string(b))
	if err != nil || id == "" || id == "uninitialized" {
		return noMachineID
	}
	sum := sha256.Sum256([]byte("collectord log identity\n" + id))
	return hex.EncodeToString(sum[:16])
}

func randomUint64() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand, since Go 1.24)
	return binary.LittleEndian.Uint64(b[:])
}
