// Package doctor judges a host: whether its disk, clock, limits and files are what a
// collector needs, and what to do where they are not.
//
//	measured (Disk, Clock, Kernel, Certificate) -> Checks() -> Report -> verdict, JSON
//
// It owns the levels, the names of its checks, the bounds above which something is a
// warning or an error, and the measuring of disk and kernel. It does not own what it is
// not told: it knows no configuration, no log and no storage; main makes checks of those.
//
// Invariants:
//
//   - A judgement is a function of what was measured: no clock, file or socket in it.
//   - A check's name is stable, and begins with its group and a dot.
//   - What could not be measured is Unchecked, with the reason, and never OK.
//   - Measuring changes nothing but a file of its own in the directory whose syncs are
//     measured, which is removed.
package doctor
