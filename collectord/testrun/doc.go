// Package testrun kills processes that tests started, after the test program ended in
// any way: normally, by its time limit, or by a signal.
//
// The package owns the environment variable that marks these processes, the descriptors
// that they inherit, and TEST_ALL, which makes exhaustive tests try all their cases. It
// does not own the normal start and stop of processes in tests.
//
// A process with the mark in its environment is killed soon after the test program
// ends. A process that overwrites its environment (such as nginx) is not found.
package testrun
