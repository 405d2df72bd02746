package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"collectord/collectord/doctor"
	"collectord/collectord/units"
	"collectord/config"
)

// dataDir checks data_dir and its disk.
func (x *checkRun) dataDir() []doctor.Check {
	cfg := x.draft.Config
	info, err := statWithTimeout(cfg.DataDir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		all := []doctor.Check{doctor.Fine("data_dir.directory", cfg.DataDir+" does not exist: the first start makes it")}
		if disk, err := doctor.MeasureDisk(existingPart(cfg.DataDir)); err == nil {
			disk.MaxBytes, disk.MinFree = cfg.WAL.MaxBytes, cfg.WAL.MinFree
			all = append(all, disk.Checks()...)
		}
		return append(all, doctor.Skip("data_dir.fsync", "data_dir does not exist"))
	case err != nil:
		return []doctor.Check{doctor.Fail("data_dir.directory", cfg.DataDir+" can't be examined: "+err.Error(), "see to the disk, or mount it")}
	}
	all := []doctor.Check{directoryCheck(cfg.DataDir, info)}
	for _, why := range x.draft.stopped {
		all = append(all, doctor.Fail("data_dir.parts", why, "mount its disk, or correct the link"))
	}
	type measured struct {
		disk             doctor.Disk
		median, p99      time.Duration
		n                int
		diskErr, syncErr error
	}
	m, answered := withDiskTimeout(func() (m measured) {
		m.disk, m.diskErr = doctor.MeasureDisk(cfg.DataDir)
		m.disk.Used = x.log.bytes
		m.median, m.p99, m.n, m.syncErr = doctor.MeasureSyncs(cfg.DataDir)
		return m
	})
	if !answered {
		return append(all, doctor.Fail("data_dir.fsync", noAnswerText(cfg.DataDir), "no usage can be committed: see to the disk (dmesg)"))
	}
	if m.diskErr != nil {
		all = append(all, doctor.Fail("data_dir.disk", m.diskErr.Error(), "see to the disk"))
	} else {
		m.disk.MaxBytes, m.disk.MinFree = cfg.WAL.MaxBytes, cfg.WAL.MinFree
		all = append(all, m.disk.Checks()...)
	}
	if m.syncErr != nil {
		return append(all, doctor.Fail("data_dir.fsync", m.syncErr.Error(), "no usage can be committed: check the disk, its free space, and the permissions of data_dir"))
	}
	return append(all, doctor.SyncCheck(m.median, m.p99, m.n))
}

// directoryCheck checks which users can read data_dir. The checks of the configuration
// cover whether the daemon's user can use it.
func directoryCheck(dir string, info os.FileInfo) doctor.Check {
	found := dir + " belongs to " + ownerName(info) + ", mode " + modeText(info)
	if info.Mode().Perm()&0o007 != 0 {
		return doctor.Warn("data_dir.directory", found+": every user of this host can read the usages in it", "chmod 750 "+dir)
	}
	return doctor.Fine("data_dir.directory", found)
}

// kernel checks the limits of the running daemon. Before its start it checks those of
// this process, which may differ from those of the service.
func (x *checkRun) kernel() []doctor.Check {
	cfg, system := x.draft.Config, doctor.System()
	pid := x.log.process
	var all []doctor.Check
	if _, err := os.Stat("/proc/" + pid); pid == "" || err != nil {
		pid = "self"
		all = append(all, doctor.Skip("kernel.service", "the daemon is not running: the limits listed here are those of this process, and the service may have others (LimitNOFILE=, MemoryMax=)"))
	}
	k := doctor.Kernel{
		OpenFiles: system.OpenFiles(pid), Connections: int64(cfg.HTTP.MaxConnections),
		ReceiveMax: system.Sysctl("net/core/rmem_max"), Backlog: system.Sysctl("net/core/somaxconn"),
		Memory: system.Memory(pid), MemoryNeeded: memoryNeeded(cfg, cfg.HTTP.MaxConnections),
	}
	k.CountsSockets, k.KernelNeeded = system.CountsSockets(pid), kernelNeeded(cfg, cfg.HTTP.MaxConnections, k.Memory)
	k.Reserved = int64(descriptorUse{assumedAtStart, len(cfg.HTTP.Listen)}.reserve(cfg, int(min(k.OpenFiles, 1<<30))))
	if n := len(cfg.UDP.Listen); n > 0 {
		k.ReceiveBuffer = cfg.UDP.ReceiveBuffer / int64(n*udpOptions(cfg, nil).SocketsPerAddress())
	}
	return append(all, k.Checks()...)
}

func (x *checkRun) clock() []doctor.Check {
	c := doctor.Clock{Now: time.Now(), Built: buildTime(), Newest: x.log.newest}
	if ahead := x.clockAhead.Load(); ahead != nil {
		c.Ahead, c.Compared = *ahead, true
	}
	return append(c.Checks(), doctor.NTPCheck())
}

// folder checks the destination folder, which may be on another host.
func (x *checkRun) folder() []doctor.Check {
	folder := bucketFolder(x.draft.Config)
	all, answered := withDiskTimeout(func() []doctor.Check { return folderChecks(x.draft.Config, folder) })
	if !answered {
		return []doctor.Check{doctor.Fail("storage.folder", noAnswerText(folder), "nothing is shipped until it answers: see to the disk, or to the host that shares it")}
	}
	return all
}

func folderChecks(cfg *config.Config, folder string) []doctor.Check {
	at := existingPart(folder)
	var all []doctor.Check
	switch problems := folderProblems(folder, time.Now()); {
	case len(problems) > 0:
		all = append(all, doctor.Fail("storage.folder", folder+" "+strings.Join(problems, "; it "), "see to the owner and mode of these directories, or mount them"))
	case at != folder:
		all = append(all, doctor.Fine("storage.folder", folder+" does not exist: the first start makes it"))
	default:
		all = append(all, doctor.Fine("storage.folder", folder+" can be written to"))
	}
	disk, err := doctor.MeasureDisk(at)
	if err != nil {
		return append(all, doctor.Skip("storage.folder_space", err.Error()))
	}
	return append(all, folderSpace(cfg, disk, sameDisk(at, cfg.DataDir)))
}

func folderSpace(cfg *config.Config, disk doctor.Disk, same bool) doctor.Check {
	const name, advice = "storage.folder_space", "collectord never deletes objects there: move old objects elsewhere before the disk is full (collectord ship --archive brings them to another destination)"
	found := units.Bytes(disk.Free) + " free"
	if same {
		found += ", on the disk of data_dir: when this disk is full, the log stops too"
	}
	if disk.Free <= cfg.WAL.MinFree {
		return doctor.Fail(name, found, advice)
	}
	if disk.Free < cfg.WAL.MaxBytes+cfg.WAL.MinFree {
		return doctor.Warn(name, found, advice)
	}
	return doctor.Fine(name, found+"; collectord never deletes objects there")
}
