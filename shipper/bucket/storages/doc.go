// Package storages runs common S3 storages for tests, and tests which features each storage
// really implements: an answer of 200 does not prove it.
//
// The package owns how each storage is started, killed and restarted on the loopback
// interface, a client that sends and signs any header, and the tests whose results are a
// row of docs/storages.md. Other code owns the installation of the programs
// (packaging/tools/build) and collectord's use of a storage; this package imports none of
// collectord.
package storages
