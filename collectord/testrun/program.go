package testrun

import (
	"os"
	"syscall"
)

// WriteProgram writes a file that a test then runs. No process starts meanwhile: until it
// has become its program it would have the file open for writing, and who runs the file
// would get ETXTBSY.
func WriteProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755) //nolint:gosec // it is to be run, by another user, too
}
