// Package admin shows the state of the daemon to an operator.
//
// The package owns the admin listener with metrics, health checks, status page and
// profiles. It also owns the samples of the last minute and hour, from which rates and
// plots are computed. It does not own the figures: all others come from one Snapshot per
// request, so that the figures of one response are consistent with each other.
//
// Invariants:
//
//   - It never changes the behavior of the daemon.
//   - Listeners other than loopback and Unix sockets serve only /metrics, /livez and
//     /readyz. On loopback the Host header must name a loopback address, so that a web
//     page can't reach the listener by DNS rebinding.
//   - The resources of a client are limited: connections, size and time of a header, time
//     of a response, number and time of profiles. Request bodies are refused. A health
//     check gets a response regardless of other clients.
//   - Text from clients and from the storage is escaped and of limited length. The status
//     page loads no resources and runs no scripts.
package admin
