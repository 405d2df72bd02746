// Command collectord receives usages over HTTP and UDP, keeps them in a local
// write-ahead log, and ships them to object storage.
//
// This package contains the commands and connects the parts of the daemon. The other
// packages do the work: config reads the settings, httpserver and udpserver serve the
// network, wal stores the records, shipper uploads them, and admin reports on all of
// them. This package contains:
//
//   - what all commands share: commands.go, completion.go, man.go
//   - the checks of a configuration: plan.go, and the files that define which clients
//     may send: policy.go
//   - a reload of the configuration: reload.go
//   - signals and the order of the shutdown: signals.go, shutdown.go
//   - listeners: listeners.go; sockets that outlive the process: sockets.go; unix
//     sockets: unix.go
//   - the queue before the log output: logqueue.go, stderr.go, journal.go
//   - notifications to the service manager: notify.go, status.go
//   - the limit of goroutines that run at a time: proclimit.go
//   - how often the log repeats a failure: trouble.go; the failures that are still
//     open: troubles.go
package main
