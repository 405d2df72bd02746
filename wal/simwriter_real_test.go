package wal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"collectord/wal/segment"
	"collectord/wal/vfs"
	"collectord/wal/vfs/simdisk"
)

var limitedResource = flag.String("limited", "", "what is limited in a process that a test starts: size or space")

// realWriters are the writers of the product.
var realWriters = map[string]segment.NewEntryWriter{"sharing": segment.NewLogWriter, "copying": segment.NewCopyingWriter}

// writerPair is a writer on a real disk, and the simulated writer on a simulated disk.
// Each operation must have the same result on both.
type writerPair struct {
	t               *testing.T
	path            string // path of the real writer's file
	real, simulated segment.EntryWriter
	disk            *simdisk.Disk
	fault           func(simdisk.Call) simdisk.Fault // results of the simulated writer's calls
}

const simulatedPath = "/" + segment.FileName

// newPair creates both, in dir and on a simulated disk of capacity bytes.
func newPair(t *testing.T, dir string, newReal segment.NewEntryWriter, capacity int64, fault func(simdisk.Call) simdisk.Fault) *writerPair {
	t.Helper()
	p := &writerPair{t: t, path: filepath.Join(dir, segment.FileName), fault: fault, disk: simdisk.New(capacity, func(int) int { return 0 })}
	p.disk.SetIntercept(func(c simdisk.Call) simdisk.Fault {
		if p.fault == nil {
			return simdisk.Fault{}
		}
		return p.fault(c)
	})
	var realErr, standErr error
	first := randomEntry(60)
	p.real, realErr = newReal(dir, bytes.Clone(first))
	p.simulated, standErr = newSimulatedWriter(p.disk, "/", first)
	p.compare("create", realErr, standErr)
	return p
}

func randomEntry(n int) []byte {
	buf := make([]byte, segment.MaxLengthPrefix+n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(buf)
	return buf
}

func (p *writerPair) write(n int) {
	p.t.Helper()
	buf := randomEntry(n)
	p.compare(fmt.Sprintf("write of %d bytes", n), p.real.Write(bytes.Clone(buf)), p.simulated.Write(buf))
}

func (p *writerPair) close() {
	p.t.Helper()
	p.compare("close", p.real.Close(), p.simulated.Close())
}

// compare fails the test unless both returned the same error and wrote the same bytes.
func (p *writerPair) compare(what string, realErr, standErr error) {
	p.t.Helper()
	if (realErr == nil) != (standErr == nil) || errnoOf(realErr) != errnoOf(standErr) {
		p.t.Errorf("%s: the library returns %v, the simulated writer %v", what, realErr, standErr)
	}
	want, err := os.ReadFile(p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	file, err := vfs.Disk{FS: p.disk}.Open(simulatedPath)
	if err != nil {
		p.t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		p.t.Fatal(err)
	}
	got := make([]byte, info.Size())
	if _, err := file.ReadAt(got, 0); err != nil && len(got) > 0 {
		p.t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		p.t.Fatalf("%s: the library's file has %d bytes, the simulated one %d, and they differ", what, len(want), len(got))
	}
}

// errnoOf returns the errno of an error, or 0 if it does not come from the disk.
func errnoOf(err error) (errno syscall.Errno) {
	_ = errors.As(err, &errno)
	return errno
}

func eachRealWriter(t *testing.T, run func(t *testing.T, newReal segment.NewEntryWriter)) {
	for name, newReal := range realWriters {
		t.Run(name, func(t *testing.T) { run(t, newReal) })
	}
}

func TestTheSimulatedWriterWritesWhatTheLogLibraryWrites(t *testing.T) {
	eachRealWriter(t, func(t *testing.T, newReal segment.NewEntryWriter) {
		p := newPair(t, t.TempDir(), newReal, 64<<20, nil)
		for _, n := range []int{0, 1, 127, 128, 2, 4095, 4096, 16383, 16384, 1 << 20, 1<<21 - 1, 1 << 21, 3, 20 << 20} {
			p.write(n)
		}
		p.close()
		p.write(1)
		p.close()
	})
}

// TestTheSimulatedWriterFailsAsTheLogLibraryDoes replaces the library's descriptor, and
// makes the calls of the simulated writer fail in the same way.
func TestTheSimulatedWriterFailsAsTheLogLibraryDoes(t *testing.T) {
	for name, bad := range map[string]struct {
		path  string // file that replaces the descriptor
		flag  int
		write syscall.Errno
	}{
		"EIO":    {"/proc/self/mem", unix.O_RDWR, syscall.EIO},
		"ENOSPC": {"/dev/full", unix.O_RDWR, syscall.ENOSPC},
		"EBADF":  {"/dev/null", unix.O_RDONLY, syscall.EBADF},
	} {
		t.Run(name, func(t *testing.T) {
			eachRealWriter(t, func(t *testing.T, newReal segment.NewEntryWriter) {
				p := newPair(t, t.TempDir(), newReal, 1<<20, nil)
				p.write(200)
				restore := replaceDescriptor(t, p.path, bad.path, bad.flag)
				p.fault = func(c simdisk.Call) simdisk.Fault {
					switch c.Op {
					case simdisk.Write:
						return simdisk.Fault{Err: bad.write}
					case simdisk.Sync:
						return simdisk.Fault{Err: syscall.EINVAL}
					}
					return simdisk.Fault{}
				}
				p.write(300)
				p.write(100)
				p.close()
				restore()
				p.fault = nil
				p.write(300) // this entry follows the earlier ones
				p.close()
				p.close()
				p.write(1)
			})
		})
	}
}

// replaceDescriptor makes the only descriptor of the file at path refer to another
// file, until restore is called.
func replaceDescriptor(t *testing.T, path, by string, flag int) (restore func()) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == path {
			if _, err := fmt.Sscan(filepath.Base(link), &fd); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("the descriptor of %s: %v", path, err)
	}
	in, err := unix.Open(by, flag|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Dup3(in, fd, unix.O_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(unix.Close(in), unix.Dup3(kept, fd, unix.O_CLOEXEC), unix.Close(kept)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheSimulatedWriterTruncatesAsTheLogLibraryDoes runs in child processes, because a
// limit on file size affects a whole process, and a full disk needs a mount.
func TestTheSimulatedWriterTruncatesAsTheLogLibraryDoes(t *testing.T) {
	switch *limitedResource {
	case "size":
		eachRealWriter(t, limitFileSize)
		return
	case "space":
		eachRealWriter(t, limitSpace)
		return
	}
	child := func(limit string, attr *syscall.SysProcAttr) (string, error) {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-limited="+limit)
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), "TMPDIR="+t.TempDir()), attr
		out, err := cmd.CombinedOutput()
		if err == nil && strings.Count(string(out), "    --- PASS") != len(realWriters) {
			err = errors.New("not every comparison was made")
		}
		return string(out), err
	}
	if out, err := child("size", nil); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	}
	out, err := child("space", attr)
	if missing := new(exec.ExitError); err != nil && (!errors.As(err, &missing) || missing.ExitCode() == noMount) {
		skipMissing(t, fmt.Sprintf("mount namespace for a full tmpfs: %v %s", err, out))
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// noMount is the exit code of a process that lacks the permission to mount.
const noMount = 77

// skipMissing fails the test for something missing, or skips it if ALLOW_MISSING=1 is
// set.
func skipMissing(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("ALLOW_MISSING") != "1" {
		t.Fatalf("this test needs a %s: set ALLOW_MISSING=1 to skip it", missing)
	}
	t.Skipf("no %s, and ALLOW_MISSING=1 is set", missing)
}

// limitFileSize limits the size of a file to each number of bytes within two entries,
// and then lifts the limit.
func limitFileSize(t *testing.T, newReal segment.NewEntryWriter) {
	signal.Ignore(syscall.SIGXFSZ)
	dir := t.TempDir()
	const first = 61 // bytes
	for limit := int64(first); limit < first+1+10+2+130; limit++ {
		dir := filepath.Join(dir, fmt.Sprint(limit))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p := newPair(t, dir, newReal, 1<<20, nil)
		setFileSize(t, limit)
		p.fault = func(c simdisk.Call) simdisk.Fault {
			if c.Op != simdisk.Write || c.Off+int64(c.Len) <= limit {
				return simdisk.Fault{}
			}
			return simdisk.Fault{Err: syscall.EFBIG, WrittenBytes: int(max(0, limit-c.Off))}
		}
		p.write(10)
		p.write(130)
		p.write(50)
		p.fault = nil
		setFileSize(t, 1<<40)
		p.write(30)
		p.close()
		p.close()
	}
}

func setFileSize(t *testing.T, size int64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(uint64(size), limit.Max)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
}

// limitSpace fills a tmpfs, frees space and continues.
func limitSpace(t *testing.T, newReal segment.NewEntryWriter) {
	const capacity = 64 << 10
	dir := t.TempDir()
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", capacity))); err != nil {
		fmt.Println(err)
		os.Exit(noMount)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	p := newPair(t, dir, newReal, capacity, nil)
	const other = "other" // name of a file that takes half of the space
	full, err := p.disk.Create("/" + other)
	if err == nil {
		_, err = full.WriteAt(make([]byte, capacity/2), 0)
	}
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, other), make([]byte, capacity/2), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.write(30_000)
	p.write(30_000) // does not fit
	p.write(1)
	if err := errors.Join(p.disk.Remove("/"+other), os.Remove(filepath.Join(dir, other))); err != nil {
		t.Fatal(err)
	}
	p.write(30_000)
	p.close()
	p.close()
}
