// Command collectord takes usages over HTTP and UDP, keeps them in a local
// write-ahead log, and ships them to object storage.
//
// This package owns the commands, the wiring, what a configuration may say (plan.go),
// the signals, the order of the
// shutdown, what a reload of the configuration does (reload.go), the files that
// say who may send (policy.go), the listeners (listeners.go), sockets that
// outlive the process (sockets.go), unix sockets (unix.go), the queue of the log
// (logqueue.go, stderr.go, journal.go), what all commands have (commands.go,
// completion.go, man.go), what the service manager is told (notify.go, status.go),
// how many goroutines run at a time (places.go), how often the log tells of what
// repeats (trouble.go), and which of that is not over (troubles.go). What the parts do is theirs: config reads the
// settings, httpserver and udpserver the network, wal keeps the records, shipper ships them, admin
// shows it all.
package main
