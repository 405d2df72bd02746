package doctor

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wantCheck compares one check with a level and a part of its finding or advice.
func wantCheck(t *testing.T, what string, all []Check, name string, level Level, text string) {
	t.Helper()
	i := slices.IndexFunc(all, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Errorf("%s: no %s in %+v", what, name, all)
		return
	}
	c := all[i]
	if c.Level != level || !strings.Contains(c.Found+" | "+c.Advice, text) {
		t.Errorf("%s: %+v, want %s with %q", what, c, level, text)
	}
	if (level == Warning || level == Error) == (c.Advice == "") {
		t.Errorf("%s: %s has the advice %q", what, level, c.Advice)
	}
}

func TestClockIsChecked(t *testing.T) {
	now := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	for what, c := range map[string]struct {
		clock Clock
		name  string
		level Level
		text  string
	}{
		"agrees":               {Clock{Compared: true, Ahead: -400 * time.Millisecond}, "clock.storage", OK, "agrees"},
		"half a second behind": {Clock{Compared: true, Ahead: -500 * time.Millisecond}, "clock.storage", OK, "agrees"},
		"a minute ahead":       {Clock{Compared: true, Ahead: time.Minute}, "clock.storage", OK, "1m0s ahead"},
		"more than a minute":   {Clock{Compared: true, Ahead: 61 * time.Second}, "clock.storage", Warning, "1m1s ahead of the storage's"},
		"a minute behind":      {Clock{Compared: true, Ahead: -61 * time.Second}, "clock.storage", Warning, "1m1s behind the storage's"},
		"15 minutes":           {Clock{Compared: true, Ahead: 15 * time.Minute}, "clock.storage", Warning, "NTP"},
		"an hour":              {Clock{Compared: true, Ahead: -time.Hour}, "clock.storage", Error, "S3 refuses"},
		"not compared":         {Clock{}, "clock.storage", Unchecked, "not checked"},
		"no build":             {Clock{}, "clock.build", Unchecked, "does not know"},
		"before the build":     {Clock{Built: now.Add(time.Hour)}, "clock.build", Error, "built on 2026-11-27 10:00:00"},
		"after the build":      {Clock{Built: now.Add(30 * time.Second)}, "clock.build", OK, "after 2026-11-27"},
		"no record":            {Clock{}, "clock.newest_record", OK, "no record"},
		"before a record":      {Clock{Newest: now.Add(time.Hour)}, "clock.newest_record", Error, "2026-11-27 10:00:00"},
		"ahead once":           {Clock{Newest: now.Add(time.Hour), Compared: true}, "clock.newest_record", Warning, "was ahead then, and is right now"},
		"a second off":         {Clock{Newest: now.Add(time.Second)}, "clock.newest_record", OK, "after the newest"},
	} {
		c.clock.Now = now
		wantCheck(t, what, c.clock.Checks(), c.name, c.level, c.text)
	}
	wantCheck(t, "NTP", []Check{ntpCheck(0)}, "clock.ntp", OK, "is synchronized")
	wantCheck(t, "no NTP", []Check{ntpCheck(unix.STA_UNSYNC)}, "clock.ntp", OK, "NTP is not running")
}

func TestDiskIsChecked(t *testing.T) {
	plenty := Disk{Type: 0xef53, Free: 100 << 30, Inodes: 1e6, Files: 2e6, QuotaFree: -1, MaxBytes: 4 << 30, MinFree: 256 << 20}
	for what, c := range map[string]struct {
		change func(*Disk)
		name   string
		level  Level
		text   string
	}{
		"ext4":                  {func(*Disk) {}, "data_dir.file_system", OK, "ext4"},
		"xfs":                   {func(d *Disk) { d.Type = 0x58465342 }, "data_dir.file_system", OK, "xfs"},
		"tmpfs":                 {func(d *Disk) { d.Type = unix.TMPFS_MAGIC }, "data_dir.file_system", Warning, "in memory"},
		"overlay":               {func(d *Disk) { d.Type = unix.OVERLAYFS_SUPER_MAGIC }, "data_dir.file_system", Warning, "volume"},
		"NFS":                   {func(d *Disk) { d.Type = unix.NFS_SUPER_MAGIC }, "data_dir.file_system", Warning, "NFS"},
		"SMB":                   {func(d *Disk) { d.Type = -0xacb2be }, "data_dir.file_system", Warning, "SMB"}, // 0xff534d42, if the type has 32 bits
		"FUSE":                  {func(d *Disk) { d.Type = unix.FUSE_SUPER_MAGIC }, "data_dir.file_system", Warning, "FUSE"},
		"9p":                    {func(d *Disk) { d.Type = unix.V9FS_MAGIC }, "data_dir.file_system", Warning, "9p"},
		"FAT":                   {func(d *Disk) { d.Type = unix.MSDOS_SUPER_MAGIC }, "data_dir.file_system", Warning, "FAT"},
		"an unknown type":       {func(d *Disk) { d.Type = 0x1234 }, "data_dir.file_system", OK, "0x1234"},
		"room":                  {func(*Disk) {}, "data_dir.space", OK, "100 GiB free"},
		"less room":             {func(d *Disk) { d.Free = 4 << 30 }, "data_dir.space", Warning, "lower wal.max_bytes"},
		"less room, log exists": {func(d *Disk) { d.Free, d.Used = 4<<30, 1<<30 }, "data_dir.space", OK, "may grow by 3 GiB"},
		"no room":               {func(d *Disk) { d.Free = 256 << 20 }, "data_dir.space", Error, "rejected now"},
		"inodes":                {func(*Disk) {}, "data_dir.inodes", OK, "1000000"},
		"few inodes":            {func(d *Disk) { d.Inodes = 9999 }, "data_dir.inodes", Warning, "9999"},
		"no inodes":             {func(d *Disk) { d.Inodes = 0 }, "data_dir.inodes", Error, "no more files"},
		"unlimited inodes":      {func(d *Disk) { d.Inodes, d.Files = 0, 0 }, "data_dir.inodes", OK, "does not limit"},
		"no quota":              {func(*Disk) {}, "data_dir.quota", OK, "no quota"},
		"a quota":               {func(d *Disk) { d.QuotaFree = 5 << 30 }, "data_dir.quota", OK, "5 GiB"},
		"a small quota":         {func(d *Disk) { d.QuotaFree = 1 << 30 }, "data_dir.quota", Warning, "leaves 1 GiB"},
		"a used quota":          {func(d *Disk) { d.QuotaFree = 0 }, "data_dir.quota", Error, "used up"},
	} {
		d := plenty
		c.change(&d)
		wantCheck(t, what, d.Checks(), c.name, c.level, c.text)
	}
	for what, c := range map[string]struct {
		q    userQuota
		want int64
	}{
		"none":      {userQuota{usedBytes: 1}, -1},
		"soft":      {userQuota{softBlocks: 10, usedBytes: 1024}, 9 << 10},
		"hard":      {userQuota{hardBlocks: 20, softBlocks: 10, usedBytes: 1024}, 19 << 10},
		"exhausted": {userQuota{hardBlocks: 1, usedBytes: 4096}, 0},
	} {
		if got := c.q.free(); got != c.want {
			t.Errorf("quota %s: %d free, want %d", what, got, c.want)
		}
	}
}

func TestSyncsAreCheckedAndMeasured(t *testing.T) {
	wantCheck(t, "fast", []Check{SyncCheck(time.Millisecond, 9*time.Millisecond, 48)}, "data_dir.fsync", OK, "median 1ms, 99th percentile 9ms, of 48")
	wantCheck(t, "slow", []Check{SyncCheck(31*time.Millisecond, 40*time.Millisecond, 48)}, "data_dir.fsync", Warning, "faster or less busy disk")
	wantCheck(t, "at times", []Check{SyncCheck(time.Millisecond, 501*time.Millisecond, 48)}, "data_dir.fsync", Warning, "501ms")
	dir := t.TempDir()
	killed := filepath.Join(dir, ".doctor-123")
	hoursAgo := time.Now().Add(-2 * time.Hour)
	if err := errors.Join(os.WriteFile(killed, make([]byte, 4096), 0o600), os.Chtimes(killed, hoursAgo, hoursAgo)); err != nil {
		t.Fatal(err)
	}
	median, p99, n, err := MeasureSyncs(dir)
	if err != nil || n < minSyncs || median <= 0 || p99 < median {
		t.Errorf("%v, %v of %d: %v", median, p99, n, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if _, _, _, err := MeasureSyncs(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a directory that does not exist was measured")
	}
	if d, err := MeasureDisk(dir); err != nil || d.Free <= 0 || d.Type == 0 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := MeasureDisk(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("the disk of a directory that does not exist was measured")
	}
}

func TestKernelLimitsAreChecked(t *testing.T) {
	plenty := Kernel{OpenFiles: 65536, Reserved: 300, Connections: 10000, ReceiveMax: 16 << 20, ReceiveBuffer: 8 << 20, Backlog: 4096, Memory: math.MaxInt64, MemoryNeeded: 100 << 20}
	for what, c := range map[string]struct {
		change func(*Kernel)
		name   string
		level  Level
		text   string
	}{
		"files":            {func(*Kernel) {}, "kernel.open_files", OK, "65536"},
		"just enough":      {func(k *Kernel) { k.OpenFiles = 10300 }, "kernel.open_files", OK, "10300"},
		"too few":          {func(k *Kernel) { k.OpenFiles = 10299 }, "kernel.open_files", Warning, "LimitNOFILE= of the unit (or ulimit -n) to 10300"},
		"unknown":          {func(k *Kernel) { k.OpenFiles = -1 }, "kernel.open_files", Unchecked, ""},
		"buffer":           {func(*Kernel) {}, "kernel.receive_buffer", OK, ""},
		"small buffer":     {func(k *Kernel) { k.ReceiveMax = 212992 }, "kernel.receive_buffer", Warning, "net.core.rmem_max=8388608"},
		"no buffer":        {func(k *Kernel) { k.ReceiveBuffer = 0 }, "kernel.receive_buffer", OK, "not needed"},
		"unknown buffer":   {func(k *Kernel) { k.ReceiveMax = -1 }, "kernel.receive_buffer", Unchecked, ""},
		"backlog":          {func(*Kernel) {}, "kernel.backlog", OK, "4096"},
		"small backlog":    {func(k *Kernel) { k.Backlog = 128 }, "kernel.backlog", Warning, "net.core.somaxconn=4096"},
		"unknown backlog":  {func(k *Kernel) { k.Backlog = -1 }, "kernel.backlog", Unchecked, ""},
		"no memory limit":  {func(*Kernel) {}, "kernel.memory", OK, "no cgroup"},
		"memory enough":    {func(k *Kernel) { k.Memory = 150 << 20 }, "kernel.memory", OK, "150 MiB"},
		"memory scarce":    {func(k *Kernel) { k.Memory = 149 << 20 }, "kernel.memory", Warning, "little is left"},
		"memory too small": {func(k *Kernel) { k.Memory = 99 << 20 }, "kernel.memory", Error, "MemoryMax="},
		"sockets fit":      {func(k *Kernel) { k.Memory, k.CountsSockets, k.KernelNeeded = 160<<20, true, 60<<20 }, "kernel.memory", OK, "160 MiB"},
		"sockets do not":   {func(k *Kernel) { k.Memory, k.CountsSockets, k.KernelNeeded = 160<<20, true, 61<<20 }, "kernel.memory", Warning, "61 MiB of the kernel's memory with http.max_connections 10000"},
		"no sockets count": {func(k *Kernel) { k.Memory, k.KernelNeeded = 160<<20, 61<<20 }, "kernel.memory", OK, "160 MiB"},
		"memory unknown":   {func(k *Kernel) { k.Memory = -1 }, "kernel.memory", Unchecked, ""},
	} {
		k := plenty
		c.change(&k)
		wantCheck(t, what, k.Checks(), c.name, c.level, c.text)
	}
}

// TestLimitsAreRead reads files in the form in which the kernel writes them.
func TestLimitsAreRead(t *testing.T) {
	root := t.TempDir()
	p := Proc{filepath.Join(root, "proc"), filepath.Join(root, "cgroup")}
	for name, text := range map[string]string{
		"proc/7/limits":                           "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax open files            1024                 65536                files     \n",
		"proc/7/cgroup":                           "12:memory:/a/b\n1:name=systemd:/x\n0::/s/c\n",
		"proc/6/cgroup":                           "12:memory:/a\n",
		"proc/8/cgroup":                           "0::/free\n",
		"proc/8/limits":                           "Max open files            unlimited            unlimited            files     \n",
		"proc/sys/net/core/rmem_max":              "212992\n",
		"proc/sys/net/core/somaxconn":             "many\n",
		"cgroup/s/memory.max":                     "1073741824\n",
		"cgroup/s/c/memory.max":                   "max\n",
		"cgroup/memory/a/b/memory.limit_in_bytes": "536870912\n",
		"cgroup/memory/a/memory.limit_in_bytes":   "9223372036854771712\n",
		"cgroup/free/memory.max":                  "max\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string][2]int64{
		"open files":          {p.OpenFiles("7"), 65536},
		"any files":           {p.OpenFiles("8"), math.MaxInt64},
		"no process":          {p.OpenFiles("9"), -1},
		"memory":              {p.Memory("7"), 512 << 20},
		"any memory":          {p.Memory("8"), math.MaxInt64},
		"without a limit":     {p.Memory("6"), math.MaxInt64},
		"memory of no cgroup": {p.Memory("9"), -1},
		"rmem_max":            {p.Sysctl("net/core/rmem_max"), 212992},
		"not a number":        {p.Sysctl("net/core/somaxconn"), -1},
		"none of that name":   {p.Sysctl("net/core/other"), -1},
		"files of this test":  {min(1, System().OpenFiles("self")), 1},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", what, c[0], c[1])
		}
	}
}

func TestVerdictIsTheWorst(t *testing.T) {
	for want, all := range map[Level][]Check{
		OK:      {Fine("a.b", ""), Skip("a.c", "why")},
		Warning: {Warn("a.b", "", "x"), Fine("a.b", "")},
		Error:   {Warn("a.b", "", "x"), Fail("c.d", "", "x"), Fine("a.b", "")},
	} {
		if r := NewReport(all); r.Verdict != want || r.Count(OK)+r.Count(Unchecked) == 0 || all[0].Group() != "a" {
			t.Errorf("%+v, want %s", r, want)
		}
	}
}
