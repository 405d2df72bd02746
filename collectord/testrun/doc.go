// Package testrun ends the processes that tests start, however the test program
// ends: killed, by its time limit, or with a failed test that forgot one.
//
// It owns the environment variable that marks these processes, and what they
// inherit. It does not own how tests start and stop them while all is well.
//
// A process that runs with the mark in its environment is killed soon after the
// test program is gone. One that overwrites its environment (nginx) is not found.
package testrun
