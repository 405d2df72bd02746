//go:build torture

package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// These proofs need root: they mount file systems and break them. They run with
// make torture.

var powerRounds = flag.Int("powerlosses", 50, "how often the power is lost, for each file system")

// requirePrograms checks that the test runs as root and that the programs are installed.
func requirePrograms(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	if m := notInstalled(programs...); m != "" {
		missing = m
	}
	if missing == "" && slices.Contains(programs, "mount") {
		if out, err := exec.Command("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); err != nil {
			missing = "mount: " + string(out)
		}
		if _, err := os.Stat("/dev/loop-control"); err != nil && slices.ContainsFunc(programs, func(p string) bool { return strings.HasPrefix(p, "mkfs.") }) {
			missing = "loop device"
		}
	}
	skipMissing(t, missing)
}

// notInstalled returns the first program that is not installed, or "".
func notInstalled(programs ...string) string {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return p
		}
	}
	return ""
}

// skipMissing skips the test if a requirement is missing and ALLOW_MISSING=1 is set. Otherwise
// a missing requirement fails it.
func skipMissing(t *testing.T, missing string) {
	t.Helper()
	switch {
	case missing == "":
	case os.Getenv("ALLOW_MISSING") == "1":
		t.Skipf("no %s here, and ALLOW_MISSING=1 is set", missing)
	default:
		t.Fatalf("this proof needs %s: set ALLOW_MISSING=1 to skip it", missing)
	}
}

func mustExec(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// disk is a file system made for one test.
type disk struct {
	t     *testing.T
	mount []string // the command that mounts it
	path  string

	unjournaled bool // unsynced data may survive a power cut
	cuts        int  // power cuts so far
}

func (d *disk) attach() {
	d.t.Helper()
	mustExec(d.t, "mount", append(d.mount, d.path)...)
	if info, err := os.Stat(d.unsynced()); err == nil && info.Size() > 0 && !d.unjournaled {
		d.t.Fatal("unsynced data survived the power cut: the test proves nothing")
	}
}

// detach unmounts the disk and waits until the kernel has dropped the cache of its image.
// As long as another mount namespace has a copy of the mount, the kernel would return data
// that was not synced.
func (d *disk) detach() {
	d.t.Helper()
	until(d.t, "the disk is no longer busy", func() bool { return exec.Command("umount", d.path).Run() == nil })
	if image := d.mount[len(d.mount)-1]; slices.Contains(d.mount, "loop") {
		until(d.t, "no mount namespace has the disk", func() bool {
			out, err := exec.Command("losetup", "-j", image).Output()
			return err == nil && len(out) == 0
		})
	}
}

// unsynced returns the path of a file whose only byte a power cut must lose. Each cut has its
// own file, because ext4 writes replaced content back at once (auto_da_alloc, ext4(5)).
func (d *disk) unsynced() string { return filepath.Join(d.path, fmt.Sprint("unsynced-", d.cuts)) }

// newDisk mounts a disk in a new directory.
func newDisk(t *testing.T, mount ...string) *disk {
	t.Helper()
	d := &disk{t: t, mount: mount, path: filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	d.attach()
	t.Cleanup(func() { _ = exec.Command("umount", "-l", d.path).Run() })
	return d
}

// newDataDisk mounts a disk. It returns a directory for a daemon with the data on the disk
// and the archive elsewhere.
func newDataDisk(t *testing.T, mount ...string) (d *disk, dir string) {
	t.Helper()
	d = newDisk(t, mount...)
	dir = filepath.Dir(d.path)
	if err := os.Mkdir(filepath.Join(d.path, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(d.path, "data"), filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	syscall.Sync()
	return d, dir
}

// losePower makes the file system forget what was not synced (EXT4_IOC_SHUTDOWN
// with NOLOGFLUSH, which XFS has too).
func (d *disk) losePower() {
	d.t.Helper()
	d.cuts++
	if err := os.WriteFile(d.unsynced(), []byte("x"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const shutdown, noLogFlush = 0x8004587d, 2
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.t.Fatalf("shut the file system down: %v", errno)
	}
}

func TestPowerLossLosesNothingAcknowledged(t *testing.T) {
	for name, fs := range map[string]struct {
		create, repair []string
		interval       time.Duration // wal.sync_interval; 0: every commit is synced
	}{
		"ext4": {create: []string{"mkfs.ext4", "-q"}},
		// Usages acknowledged more than an interval ago are safe.
		"ext4, wal.sync interval": {create: []string{"mkfs.ext4", "-q"}, interval: 20 * time.Millisecond},
		// A file system without a journal must be checked before its next use.
		"ext4 without a journal": {create: []string{"mkfs.ext4", "-q", "-O", "^has_journal"}, repair: []string{"e2fsck", "-fy"}},
		"xfs":                    {create: []string{"mkfs.xfs", "-q"}},
	} {
		t.Run(name, func(t *testing.T) {
			requirePrograms(t, fs.create[0], "mount", "umount")
			losePowerOften(t, fs.create, fs.repair, fs.interval)
		})
	}
}

func losePowerOften(t *testing.T, create, repair []string, interval time.Duration) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	mustExec(t, create[0], append(create[1:], image)...)
	disk, dir := newDataDisk(t, "-o", "loop", image)
	disk.unjournaled = repair != nil
	sync := "seal_after: 100ms"
	if interval > 0 { // without seal_after, nothing seals and so syncs before the interval ends
		sync = "sync: interval, sync_interval: " + interval.String()
	}
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0, "+sync+"}\nshutdown: {grace: 2m}\nshipper: {destination: 'file://"+dir+"/archive'}\n")
	acks := &acknowledged{ids: map[int]string{}}
	const n = 2_000
	late := 0
	for round := range *powerRounds {
		d := start(t, config, port, admin)
		at := acks.count() + rand.IntN(n/2)
		posted := make(chan struct{})
		go func() { defer close(posted); d.post(acks, round*n, (round+1)*n, 32, true) }()
		until(t, "enough usages are acknowledged", func() bool { return acks.count() >= at })
		// Answers during the shutdown of the file system prove nothing: without power
		// no such answer would leave the host.
		before := acks.snapshot()
		if interval > 0 {
			<-time.After(5 * interval)
		}
		disk.losePower()
		<-posted
		late += acks.count() - len(before)
		acks.set(before)
		select {
		case err := <-d.exited:
			t.Fatalf("round %d: the daemon ended when its disk lost power: %v\n%s", round, err, d.log())
		default:
		}
		d.kill()
		disk.detach()
		if repair != nil { // e2fsck exits with 1 after a repair
			out, err := exec.Command(repair[0], append(repair[1:], image)...).CombinedOutput()
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
				t.Fatalf("%v: %s", err, out)
			}
		}
		disk.attach()
	}
	d := start(t, config, port, admin)
	d.post(acks, *powerRounds*n, *powerRounds*n+100, 8, false)
	d.stop()
	records, objects := download(t, config)
	verifyAcknowledged(t, acks, records)
	t.Logf("%d power losses, %d acknowledged, %d records in %d objects; %d answers came during the losses",
		*powerRounds, acks.count(), len(records), objects, late)
}

func (a *acknowledged) snapshot() map[int]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.ids)
}

func (a *acknowledged) set(ids map[int]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = ids
}

// fill fills the disk to the last byte.
func (d *disk) fill() {
	ballast, err := os.OpenFile(filepath.Join(d.path, "ballast"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer ballast.Close()
	for chunk := 64 << 10; chunk > 0; {
		if _, err := ballast.Write(make([]byte, chunk)); errors.Is(err, syscall.ENOSPC) {
			chunk /= 2
		} else if err != nil {
			d.t.Error(err)
			return
		}
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.path, "ballast")); err != nil {
		d.t.Fatal(err)
	}
}

func TestFullDiskIsSurvivedByTheSameProcess(t *testing.T) {
	requirePrograms(t, "mount", "umount")
	disk, dir := newDataDisk(t, "-t", "tmpfs", "-o", "size=24m", "none")
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, seal_after: 200ms, min_free: 0}\nshipper: {destination: 'file://"+dir+"/archive'}\n")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	const rounds, n = 5, 3_000
	for round := range rounds {
		full := make(chan struct{})
		go func() { defer close(full); disk.fill() }()
		d.post(acks, 2*round*n, (2*round+1)*n, 32, true)
		<-full
		big := bytes.Repeat([]byte("x"), 900<<10)
		// Shipping frees space all the time, so filling the log takes many usages.
		until(t, "the daemon reports a full disk", func() bool {
			var refused atomic.Int64
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					resp, err := http.Post(d.url(), "application/json", strings.NewReader(fmt.Sprintf(`{"n":-1,"x":"%s"}`, big)))
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" {
						refused.Add(1)
					}
				})
			}
			clients.Wait()
			return refused.Load() > 0
		})
		if round == rounds-1 { // a start needs no free space either
			d.kill()
			if err := os.RemoveAll(filepath.Join(dir, "data", "wal", "next")); err != nil {
				t.Fatal(err)
			}
			disk.fill()
			d = start(t, config, port, admin)
			if !strings.Contains(d.log(), "the log can't be written") {
				t.Error("the daemon does not log that it started on a full disk")
			}
		}
		// Shipping needs space, which the spool's reserve provides.
		until(t, "the log is shipped although the disk is full", func() bool {
			return d.metrics()["collectord_wal_sealed_segments"] == 0
		})
		disk.free()
		until(t, "the daemon accepts usages again", func() bool {
			before := acks.count()
			i := (2*round+1)*n + int(time.Now().UnixNano()%int64(n))
			d.post(acks, i, i+1, 1, true)
			return acks.count() > before
		})
	}
	d.stop()
	records, _ := download(t, config)
	kept := records[:0]
	for _, r := range records {
		if r.Usage.N >= 0 {
			kept = append(kept, r)
		}
	}
	verifyAcknowledged(t, acks, kept)
	t.Logf("filled and freed %d times, %d acknowledged, %d records", rounds, acks.count(), len(kept))
}

// TestFullDiskEvictsTheOldest fills the disk to the last byte while the storage is
// unreachable. With wal.when_full: drop_oldest the daemon must continue.
func TestFullDiskEvictsTheOldest(t *testing.T) {
	requirePrograms(t, "mount", "umount")
	disk, dir := newDataDisk(t, "-t", "tmpfs", "-o", "size=24m", "none")
	const common = "wal: {segment_size: 1MiB, seal_after: 200ms, min_free: 0, when_full: drop_oldest}\n"
	closedPort := freePorts(t, 1)[0]
	credentials := filepath.Join(dir, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, port, admin := configure(t, dir, common+fmt.Sprintf("shutdown: {grace: 0s}\nshipper: {destination: 's3://bucket', s3: {endpoint: 'http://127.0.0.1:%d', region: us-east-1, credentials_file: '%s'}}\n", closedPort, credentials))
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 1_000, 32, false)
	disk.fill()
	at := 1_000
	until(t, "segments are evicted and usages accepted although the disk is full", func() bool {
		before := acks.count()
		d.post(acks, at, at+1_000, 32, true)
		at += 1_000
		return d.metrics()["collectord_usages_evicted_total"] > 5_000 && acks.count() > before
	})
	evicted := d.metrics()["collectord_usages_evicted_total"]
	d.stop()
	disk.free()

	config, port, admin = configure(t, dir, common+"shipper: {destination: 'file://"+dir+"/archive'}\n")
	d = start(t, config, port, admin)
	d.stop()
	records, _ := download(t, config)
	stored, noted := seqRanges(t, dir+"/archive/dt=*/hour=*/*"), seqRanges(t, dir+"/archive/_collectord/lost/*")
	var lost uint64
	for _, r := range noted {
		lost += r[1] - r[0] + 1
	}
	all := slices.SortedFunc(slices.Values(append(stored, noted...)), func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	next := uint64(1)
	for _, r := range all {
		if r[0] != next {
			t.Errorf("record %d is neither stored nor noted as lost, or both: %v", next, r)
		}
		next = r[1] + 1
	}
	if lost != uint64(evicted) || len(records)+int(lost) < acks.count() {
		t.Errorf("%d acknowledged, %d stored, %d noted as lost, %.0f counted as evicted", acks.count(), len(records), lost, evicted)
	}
	t.Logf("%d acknowledged on a full disk, %d stored, %d evicted and noted in %d notes", acks.count(), len(records), lost, len(noted))
}

// seqRanges reads the first and last seqs from the names of objects.
func seqRanges(t *testing.T, glob string) (all [][2]uint64) {
	t.Helper()
	names, err := filepath.Glob(glob)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		parts := strings.Split(filepath.Base(name), "-")
		var r [2]uint64
		for i := range r {
			if r[i], err = strconv.ParseUint(parts[len(parts)-3+i], 10, 64); err != nil {
				t.Fatal(name, err)
			}
		}
		all = append(all, r)
	}
	return all
}

// TestFailingCallsLoseNothing makes one system call fail in each run: of each kind, first the
// first call, then the second, and so on.
func TestFailingCallsLoseNothing(t *testing.T) {
	requirePrograms(t, "strace")
	const n = 300
	for _, fault := range []string{
		"fdatasync:error=EIO", "fsync:error=EIO", "mkdirat:error=EIO", "mkdirat:error=ENOSPC", "renameat:error=EIO",
		"renameat:error=ENOSPC", "unlinkat:error=EIO", "ftruncate:error=EIO", "pwrite64:error=ENOSPC", "openat:error=EMFILE",
		"write:error=EIO", "write:error=ENOSPC",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			// Calls are counted per thread, and the counts differ between runs. So the test ends
			// only after several runs without a failure.
			survived, refused := 0, 0
			for when, missed := 1, 0; missed < 5; when++ {
				started, hit := failOnce(t, fmt.Sprintf("%s:when=%d", fault, when), n)
				switch {
				case !hit:
					missed++
				case started:
					survived++
				default:
					refused++
				}
			}
			// Removals also fail repeatedly.
			if strings.HasPrefix(fault, "unlinkat") {
				for _, when := range []string{"1+2", "2+2", "1+3", "2+3", "3+3"} {
					failOnce(t, fault+":when="+when, n)
				}
			}
			t.Logf("%d runs continued, %d did not start", survived, refused)
			// Most directories are made at the start, so every failing mkdirat may prevent the start.
			if survived == 0 && !strings.HasPrefix(fault, "mkdirat") {
				t.Error("no run survived its fault")
			}
		})
	}
}

// failOnce runs a daemon with a fault, then one without, and verifies the stored
// records. It reports whether the daemon started, and whether the fault occurred.
func failOnce(t *testing.T, inject string, n int) (started, hit bool) {
	t.Helper()
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, seal_after: 100ms, min_free: 0, probe_max: 1s}\nshutdown: {drain: 1ms}\nshipper: {destination: 'file://"+dir+"/archive'}\n")
	name, _, _ := strings.Cut(inject, ":")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", "-qq", "-o", trace, "-e", "trace=" + name, "-e", "inject=" + inject}
	if name == "write" { // only writes to the first segment fail, not those to sockets
		args = append(args, "-P", filepath.Join(dir, "data", "wal", "00000000000000000001", "00000000000000000001"))
	}
	cmd := exec.Command("strace", append(args, path, "run", "--config", config)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() {
		if t.Failed() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			t.Logf("%s: the daemon logged\n%s", inject, log.String())
		}
	}()
	d := &daemon{t: t, port: port, admin: admin}
	until(t, "the daemon runs or logs why not", func() bool {
		select {
		case <-exited:
			return true
		default:
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
		if err == nil {
			word, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			started = !strings.HasPrefix(string(word), "starting")
		}
		return started
	})
	acks := &acknowledged{ids: map[int]string{}}
	if started {
		d.post(acks, 0, n, 8, true)
		until(t, inject+": the daemon takes usages again", func() bool {
			before := acks.count()
			i := n + int(time.Now().UnixNano()%1_000_000)
			d.post(acks, i, i+1, 1, true)
			return acks.count() > before
		})
		select {
		case err := <-exited:
			t.Fatalf("%s: the daemon ended: %v\n%s", inject, err, log.String())
		default:
		}
		// A failed call is no loss: no loss may be counted.
		var m map[string]float64
		until(t, inject+": everything is shipped", func() bool {
			m = d.metrics()
			return m["collectord_usages_pending"] == 0 && m["collectord_wal_loss_notes"] == 0
		})
		d.checkLedger(m)
		if m["collectord_usages_quarantined_total"]+m["collectord_usages_evicted_total"] > 0 {
			t.Errorf("%s: losses are counted without a loss: %v", inject, m)
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
	} else if !strings.Contains(log.String(), "collectord: ") {
		t.Fatalf("%s: the daemon did not start and does not log why: %s", inject, log.String())
	}
	after := start(t, config, port, admin)
	after.post(acks, n+2_000_000, n+2_000_010, 2, false)
	after.stop()
	records, _ := download(t, config)
	verifyAcknowledged(t, acks, records)
	for _, notes := range []string{dir + "/archive/_collectord/lost/*", dir + "/data/wal/lost/*-*"} {
		if noted := seqRanges(t, notes); len(noted) > 0 {
			t.Errorf("loss notes without a loss: %v", noted)
		}
	}
	// The audit also compares each object's confirmed_below with the bucket.
	if out, err := command(t, "audit", "--from-start", "--deep", "--config", config).CombinedOutput(); err != nil {
		t.Errorf("audit: %v: %s", err, out)
	}
	if t.Failed() {
		t.Fatalf("%s\nfirst run:\n%s\nsecond run:\n%s", inject, log.String(), after.log())
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return started, bytes.Contains(calls, []byte("(INJECTED)"))
}
