package doctor

import (
	"fmt"
	"math"

	"collectord/collectord/units"
)

// Kernel is the kernel's limits for the process, and what the daemon needs.
type Kernel struct {
	OpenFiles   int64 // RLIMIT_NOFILE; negative: unknown
	Reserved    int64 // descriptors for everything but HTTP connections
	Connections int64 // http.max_connections

	ReceiveMax    int64 // net.core.rmem_max; negative: unknown
	ReceiveBuffer int64 // bytes per UDP socket; 0: UDP is off

	Backlog int64 // net.core.somaxconn; negative: unknown

	Memory       int64 // limit of the cgroup in bytes; MaxInt64: no limit; negative: unknown
	MemoryNeeded int64 // by the process

	CountsSockets bool  // the cgroup counts the kernel's memory for connections
	KernelNeeded  int64 // by the kernel for connections, datagrams and files, if all clients send and the daemon reads nothing
}

// Bounds of the kernel's limits.
const (
	minBacklog   = 1024
	memoryHalves = 3 // recommended memory, in halves of MemoryNeeded, because the page cache counts too
)

// Checks returns the checks of the kernel's limits.
func (k Kernel) Checks() []Check {
	return []Check{k.openFiles(), k.receiveBuffer(), k.backlog(), k.memory()}
}

func (k Kernel) openFiles() Check {
	const name = "kernel.open_files"
	switch available := k.OpenFiles - k.Reserved; {
	case k.OpenFiles < 0:
		return Skip(name, "the limit of open files is not known")
	case available < k.Connections:
		return Warn(name, fmt.Sprintf("%d files may be open, which leaves %d for connections: http.max_connections is %d", k.OpenFiles, max(0, available), k.Connections),
			fmt.Sprintf("raise LimitNOFILE= of the unit (or ulimit -n) to %d, or lower http.max_connections", k.Connections+k.Reserved))
	}
	return Fine(name, fmt.Sprintf("%d files may be open, enough for http.max_connections %d", k.OpenFiles, k.Connections))
}

func (k Kernel) receiveBuffer() Check {
	const name = "kernel.receive_buffer"
	switch {
	case k.ReceiveBuffer == 0:
		return Fine(name, "not needed: udp.listen is off")
	case k.ReceiveMax < 0:
		return Skip(name, "net.core.rmem_max can't be read")
	case k.ReceiveMax < k.ReceiveBuffer:
		return Warn(name, fmt.Sprintf("net.core.rmem_max is %d, and each UDP socket asks for %d (udp.receive_buffer): the kernel drops datagrams sooner", k.ReceiveMax, k.ReceiveBuffer),
			fmt.Sprintf("sysctl -w net.core.rmem_max=%d, and the same in /etc/sysctl.d, or lower udp.receive_buffer", k.ReceiveBuffer))
	}
	return Fine(name, fmt.Sprintf("net.core.rmem_max is %d, enough for udp.receive_buffer", k.ReceiveMax))
}

func (k Kernel) backlog() Check {
	const name = "kernel.backlog"
	switch {
	case k.Backlog < 0:
		return Skip(name, "net.core.somaxconn can't be read")
	case k.Backlog < minBacklog:
		return Warn(name, fmt.Sprintf("net.core.somaxconn is %d: connections of a burst beyond that wait, or are refused", k.Backlog), "sysctl -w net.core.somaxconn=4096, and the same in /etc/sysctl.d")
	}
	return Fine(name, fmt.Sprintf("net.core.somaxconn is %d", k.Backlog))
}

func (k Kernel) memory() Check {
	const name = "kernel.memory"
	switch {
	case k.Memory < 0:
		return Skip(name, "the cgroup's limit can't be read")
	case k.Memory == math.MaxInt64:
		return Fine(name, "no cgroup limits it")
	case k.Memory < k.MemoryNeeded:
		return Fail(name, fmt.Sprintf("the cgroup is limited to %s, and the configuration may take %s: the daemon can be killed", units.Bytes(k.Memory), units.Bytes(k.MemoryNeeded)), "raise MemoryMax= (or the container's limit), or lower http.max_connections")
	case k.CountsSockets && k.Memory < k.MemoryNeeded+k.KernelNeeded:
		return Warn(name, fmt.Sprintf("the cgroup is limited to %s, and the configuration may take %s, and %s of the kernel's memory with http.max_connections %d: when it is used up, connections that are not authenticated make room", units.Bytes(k.Memory), units.Bytes(k.MemoryNeeded), units.Bytes(k.KernelNeeded), k.Connections), "raise MemoryMax= (or the container's limit), or lower http.max_connections")
	case k.Memory < k.MemoryNeeded*memoryHalves/2:
		return Warn(name, fmt.Sprintf("the cgroup is limited to %s, and the configuration may take %s: little is left for files in memory", units.Bytes(k.Memory), units.Bytes(k.MemoryNeeded)), "raise MemoryMax= (or the container's limit), or lower http.max_connections")
	}
	return Fine(name, fmt.Sprintf("the cgroup is limited to %s, enough for %s", units.Bytes(k.Memory), units.Bytes(k.MemoryNeeded)))
}
