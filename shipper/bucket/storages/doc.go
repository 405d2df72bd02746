// Package storages runs the S3 storages that people use, for tests, and asks each
// what it does beyond answering 200.
//
// It owns how each is started, killed and started again on the loopback interface,
// a client that signs whatever headers a test wants, and the questions whose
// answers are a row of docs/storages.md. It does not own how the programs get onto
// the machine (packaging/tools/build), nor what collectord does with a storage:
// it uses nothing of ours.
package storages
