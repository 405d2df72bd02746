package doctor

import (
	"fmt"
	"time"

	"collectord/collectord/units"
)

// Bounds of a disk.
const (
	slowMedian = 30 * time.Millisecond
	slowP99    = 500 * time.Millisecond // for the 99th percentile
	fewInodes  = 10_000
)

// Disk is the measured state of the disk under a directory, and the log's use of it.
type Disk struct {
	Type          int64 // f_type of statfs(2)
	Free          int64 // bytes available to this user
	Inodes, Files int64 // free and total number of inodes; Files is 0 if there is no limit
	QuotaFree     int64 // bytes left in the user's quota; negative if there is no quota

	Used     int64 // bytes in the log and the spool
	MaxBytes int64 // limit of Used (wal.max_bytes)
	MinFree  int64
}

// Checks returns the checks of the disk.
func (d Disk) Checks() []Check {
	return []Check{fileSystem(d.Type), d.space(), d.inodes(), d.quota()}
}

// fileSystem checks the type of a file system. The constants are from statfs(2) and
// linux/magic.h.
func fileSystem(kind int64) Check {
	const name = "data_dir.file_system"
	const elsewhere = "put data_dir on a local file system such as ext4 or xfs"
	switch kind & 0xffffffff {
	case 0xef53:
		return Fine(name, "ext4 (or ext2, ext3)")
	case 0x58465342:
		return Fine(name, "xfs")
	case 0x9123683e:
		return Fine(name, "btrfs")
	case 0x2fc12fc1:
		return Fine(name, "zfs")
	case 0xf2f52010:
		return Fine(name, "f2fs")
	case 0x01021994, 0x858458f6:
		return Warn(name, "tmpfs: acknowledged usages are in memory, and are lost at a restart of the host", elsewhere)
	case 0x794c7630:
		return Warn(name, "overlay: the log is gone with the container", "mount a volume at data_dir")
	case 0x6969:
		return Warn(name, "NFS: a commit depends on the network and on the server, whose disk must honour a sync", elsewhere)
	case 0xff534d42, 0xfe534d42, 0x517b:
		return Warn(name, "SMB: a commit depends on the network, and what a sync means is up to the server", elsewhere)
	case 0x65735546:
		return Warn(name, "FUSE: what a sync means is up to the program behind it", elsewhere)
	case 0x01021997:
		return Warn(name, "9p: what a sync means is up to the host of this machine", elsewhere)
	case 0x00c36400:
		return Warn(name, "CephFS: a commit depends on the network", elsewhere)
	case 0x4d44, 0x2011bab0:
		return Warn(name, "FAT or exFAT: a power loss can damage the file system itself", elsewhere)
	}
	return Fine(name, fmt.Sprintf("type 0x%x, which is not known here", uint64(kind)))
}

func (d Disk) space() Check {
	const name = "data_dir.space"
	growth := max(0, d.MaxBytes-d.Used)
	found := fmt.Sprintf("%s free; the log may grow by %s (wal.max_bytes), and leaves %s (wal.min_free)", units.Bytes(d.Free), units.Bytes(growth), units.Bytes(d.MinFree))
	switch {
	case d.Free <= d.MinFree:
		return Fail(name, found+": usages are rejected now", "make room on this disk, or lower wal.min_free")
	case d.Free < growth+d.MinFree:
		return Warn(name, found+": the disk is full before the log is", "make room, or lower wal.max_bytes to the space that the log may use during an outage")
	}
	return Fine(name, found)
}

func (d Disk) inodes() Check {
	const name, advice = "data_dir.inodes", "delete files on this disk, or put data_dir on another: each segment takes two inodes"
	switch {
	case d.Files == 0:
		return Fine(name, "this file system does not limit the number of files")
	case d.Inodes == 0:
		return Fail(name, "no more files can be made", advice)
	case d.Inodes < fewInodes:
		return Warn(name, fmt.Sprintf("%d more files can be made", d.Inodes), advice)
	}
	return Fine(name, fmt.Sprintf("%d more files can be made", d.Inodes))
}

func (d Disk) quota() Check {
	const name, advice = "data_dir.quota", "raise the quota of the daemon's user, or lower wal.max_bytes"
	growth := max(0, d.MaxBytes-d.Used)
	switch {
	case d.QuotaFree < 0:
		return Fine(name, "no quota of this user is seen")
	case d.QuotaFree == 0:
		return Fail(name, "the quota of this user is used up", advice)
	case d.QuotaFree < growth:
		return Warn(name, fmt.Sprintf("the quota of this user leaves %s, and the log may grow by %s", units.Bytes(d.QuotaFree), units.Bytes(growth)), advice)
	}
	return Fine(name, fmt.Sprintf("the quota of this user leaves %s", units.Bytes(d.QuotaFree)))
}

// SyncCheck checks the latency of n syncs.
func SyncCheck(median, p99 time.Duration, n int) Check {
	found := fmt.Sprintf("median %v, 99th percentile %v, of %d", rounded(median), rounded(p99), n)
	if median > slowMedian || p99 > slowP99 {
		return Warn("data_dir.fsync", found, "each commit waits for an fsync: use a faster or less busy disk. With wal.sync: interval answers come sooner, but a power loss loses the usages of the last wal.sync_interval")
	}
	return Fine("data_dir.fsync", found)
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
