// Package doctor checks a host: whether its disk, clock and limits suit a collector, and
// what to do if not.
//
//	measured (Disk, Clock, Kernel) -> Checks() -> Report -> verdict, JSON
//
// The package owns the levels, the names of its checks, the bounds for warnings and
// errors, and the measurement of disk and kernel. It does not know the configuration, the
// log or the storage: package main makes the checks of those.
//
// Invariants:
//
//   - A judgement depends only on its measurements. It uses no clock, file or socket.
//   - The name of a check is stable, and begins with its group and a dot.
//   - A check that could not be made is Unchecked with a reason, never OK.
//   - A measurement changes nothing on the host, except for a temporary file in the
//     directory whose syncs are measured.
package doctor
