// Package admin shows an operator what the daemon does.
//
// It owns the admin listener: metrics, health checks, a status page and
// profiles; and samples of the last minute and the last hour, which rates and plots
// are made of. It does not own any of the figures: everything else it shows comes
// from one Snapshot, taken when it is asked for, so that what one scrape shows is
// consistent in itself.
//
// Invariants:
//
//   - It never changes what the daemon does.
//   - Beyond loopback and unix sockets only /metrics, /livez and /readyz are
//     served; on loopback the Host header must name a loopback address, so that
//     no web page can reach it by rebinding a name.
//   - What a client can take is bounded: connections, the size and time of a
//     header, the time of an answer, the number and time of profiles; a body is
//     refused. Whatever others do, a probe gets its answer.
//   - What strangers named is escaped and of bounded length. The status page loads
//     nothing and runs nothing.
package admin
