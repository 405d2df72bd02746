package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MeasureDisk measures the disk under a directory.
func MeasureDisk(dir string) (d Disk, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return d, err
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return d, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Disk{
		Type: int64(s.Type), Free: int64(s.Bavail) * s.Bsize, //nolint:unconvert // of another type on other architectures
		Inodes: int64(s.Ffree), Files: int64(s.Files), QuotaFree: quotaFree(int(f.Fd())),
	}, nil
}

// userQuota is struct if_dqblk of linux/quota.h.
type userQuota struct {
	hardBlocks, softBlocks, usedBytes uint64 // blocks of 1 KiB
	hardFiles, softFiles, usedFiles   uint64
	blockTime, fileTime               uint64
	valid                             uint32
	_                                 uint32
}

// quotaFree returns the bytes left in this user's quota on a file system. It returns -1
// if there is no quota or the kernel does not report it (quotactl_fd(2), since Linux
// 5.14).
func quotaFree(fd int) int64 {
	const getUserQuota = 0x800007 << 8 // QCMD(Q_GETQUOTA, USRQUOTA)
	var q userQuota
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), getUserQuota, uintptr(os.Geteuid()), uintptr(unsafe.Pointer(&q)), 0, 0)
	if errno != 0 {
		return -1
	}
	return q.free()
}

func (q userQuota) free() int64 {
	limit := q.hardBlocks
	if limit == 0 {
		limit = q.softBlocks
	}
	if limit == 0 {
		return -1
	}
	return max(0, int64(limit)<<10-int64(q.usedBytes))
}

// Parameters of MeasureSyncs.
const (
	maxSyncs     = 48
	syncsTimeout = 2 * time.Second // time limit, once there are minSyncs
	minSyncs     = 8
	syncBytes    = 4 << 10
	syncsPrefix  = ".doctor-"
	syncsOld     = time.Hour // a measurement that is not finished by then was killed
)

// MeasureSyncs repeatedly appends a page to a temporary file in a directory and syncs
// it. It returns the latency of a sync and the number n of syncs: up to 48, fewer if
// they take more than 2 s. It also removes the files of measurements that were killed.
func MeasureSyncs(dir string) (median, p99 time.Duration, n int, err error) {
	removeOldFiles(dir)
	f, err := os.CreateTemp(dir, syncsPrefix+"*")
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, syncBytes)
	var latencies []time.Duration
	for began := time.Now(); len(latencies) < maxSyncs && (len(latencies) < minSyncs || time.Since(began) < syncsTimeout); {
		if _, err := f.Write(page); err != nil {
			return 0, 0, len(latencies), err
		}
		at := time.Now()
		if err := f.Sync(); err != nil {
			return 0, 0, len(latencies), err
		}
		latencies = append(latencies, time.Since(at))
	}
	slices.Sort(latencies)
	return latencies[len(latencies)/2], latencies[len(latencies)*99/100], len(latencies), nil
}

// removeOldFiles removes what killed measurements left in a directory. Errors do not matter: the
// next measurement tries again.
func removeOldFiles(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), syncsPrefix) && info.Mode().IsRegular() && info.Size() <= maxSyncs*syncBytes && time.Since(info.ModTime()) > syncsOld {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
