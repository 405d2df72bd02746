package main

// proof is a test of make torture. It fails if an acknowledged usage is lost, or stored in
// more than one object.
type proof struct {
	fault, dir, test string
	lost, doubled    string // usages that the guarantees allow to be lost or doubled; empty: none
}

var proofs = []proof{
	{"the daemon is killed (`kill -9`) under load", "collectord", "TestKilledDaemonLosesNothingAcknowledgedAndDoublesNothing", "", ""},
	{"the daemon is killed around an upload: before and after storing, answering, removing", "collectord", "TestKilledAroundAnUploadStoresEverySegmentOnce", "", ""},
	{"the daemon is killed while clients repeat requests with their keys", "collectord", "TestUsagesRepeatedUntilAnsweredHaveOneID", "", "under one id"},
	{"the host loses power: ext4, ext4 without a journal, xfs, on a device that forgets what was not flushed", "collectord", "TestPowerLossLosesNothingAcknowledged", "", ""},
	{"the disk is filled and freed", "collectord", "TestFullDiskIsSurvivedByTheSameProcess", "", ""},
	{"the disk is full, and the oldest usages may be evicted", "collectord", "TestFullDiskEvictsTheOldest", "only evicted usages, noted", ""},
	{"the n-th system call of each kind fails", "collectord", "TestFailingCallsLoseNothing", "", ""},
	{"every call of the log's disk fails with every error, and the host crashes: a simulated disk", "wal", "TestNoFailedCallLosesWhatWasAcknowledged", "", ""},
	{"crashes of a simulated disk that forgets, reorders, tears, rots, lies, hangs", "wal", "TestNoCrashLosesWhatWasAcknowledged", "", ""},
	{"random operations against a model of the log", "wal", "TestAgainstAModel", "", ""},
	{"a storage that stalls, resets, refuses, loses answers", "shipper", "TestAStorageThatDoesEverythingWrongGetsEverySegmentOnce", "", ""},
	{"a storage that lies: it answers 200 and stores nothing, forgets objects, cuts off listings and bodies", "shipper", "TestALiarLosesNothingUnseen", "only vanished usages, reported", ""},
	{"the storage is away while a backlog grows and drains", "collectord", "TestABacklogIsDrainedInLittleMemory", "", ""},
	{"a slow uplink", "collectord", "TestASlowUplinkShipsAtTheFirstAttempt", "", ""},
	{"a network that loses datagrams", "collectord", "TestALossyNetworkIsNotMistakenForLostUsages", "no datagram that was read", "–"},
	{"collectors behind a proxy are killed, restarted and hang", "collectord", "TestProxiesBeforeCollectorsHideKills", "", "under one id"},
	{"10,000 plain and 1,024 TLS connections at once, in a small cgroup", "collectord", "TestTenThousandConnectionsFitIntoASmallCgroup", "", ""},
	{"the same with cgroups of version 2, which count the memory of sockets, in a virtual machine (`make siege-v2`)", "collectord", "TestASmallCgroupOfVersion2Suffices", "", ""},
	{"strangers hold every connection", "collectord", "TestClientsAreServedWhileStrangersHoldEverySlot", "", ""},
	{"every limit is reached at once", "collectord", "TestEveryLimitReachedAtOnceTakesLittleMemory", "", ""},
}

const intro = `# Torture

<!-- Made by make torture. -->

This page shows the last run of ` + "`make torture`" + `: the faults to which collectord was exposed, and what happened to acknowledged
usages. Each test looks in the storage for every usage that was answered 201. It fails if the numbers of lost and doubled
usages differ from those in the table.

`

const outro = `
To repeat it: ` + "`make torture`" + ` as root, or one test with ` + "`go test -tags torture -v ./DIRECTORY -run TEST`" + `. The simulated disk prints
the seed of a failure; ` + "`go test ./wal -run NoCrashLoses -simulate-seed N -simulate-states 1 -simulate-every 1 -v`" + ` repeats it.
The Makefile sets the numbers of rounds. Raise them with, for example, ` + "`make torture KILLS=1000`" + `.

## What is not tested

- Hardware: disks that acknowledge a flush but lose the data, controllers with a failing battery, memory that flips bits.
- File systems other than ext4 and xfs under power cuts, among them btrfs, f2fs and ZFS.
- Storages over a real wide-area network for days; storages of cloud providers.
- Clocks that are set while a request is under way, except on the simulated disk.
- Kernels other than that of the test machine; 32-bit systems.
- Rounds that take weeks.
`
