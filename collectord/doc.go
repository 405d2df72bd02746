// Command collectord receives usages over HTTP and UDP, keeps them in a local
// write-ahead log, and ships them to object storage.
//
// This package contains the commands and connects the parts of the daemon. The other
// packages do the work: config reads the settings, httpserver and udpserver serve the
// network, wal stores the records, shipper uploads them, and admin reports on all of
// them. Begin with main.go, and then run.go, which starts and stops the daemon. Files of
// one subject begin alike:
//
//   - commands: audit*.go, cat.go, configure.go, fleet*.go, send*.go, ship*.go,
//     statuscmd.go, statustext.go, token.go, wal*.go; what they share: commands.go,
//     completion.go, destinations.go, adminclient.go, progress.go, text.go; their manual
//     page: man.go, roff.go
//   - the options of each part: wiring.go
//   - the checks of a configuration: plan*.go, namedfiles.go; the files that define which
//     clients may send: policy.go; the account of the daemon: daemonuser.go
//   - collectord doctor: doctor*.go
//   - a reload of the configuration: reload.go
//   - signals and the order of the shutdown: signals.go, shutdown.go
//   - listeners: listeners.go, portholder.go; sockets that outlive the process:
//     sockets.go; unix sockets: unix.go
//   - the log while it is not open yet: pendinglog.go
//   - limits: descriptors.go, memory.go, groupmemory.go, proclimit.go
//   - what is watched while the daemon runs: clockwatch.go, storagecheck.go
//   - the state of the daemon, for the admin server: health.go; for the heartbeat:
//     describe.go
//   - the daemon's log lines: logger.go, and the queue before their output: logqueue.go,
//     stderr.go, journal.go; how often a failure is repeated: trouble.go; the failures
//     that are still open: troubles.go
//   - notifications to the service manager: notify.go, status.go
package main
