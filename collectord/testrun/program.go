package testrun

import (
	"os"
	"syscall"
)

// WriteProgram writes an executable file for a test. It prevents forks while the file
// is open. Otherwise a forked child could inherit the open file, and running the file
// would fail with ETXTBSY.
func WriteProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755) //nolint:gosec // another user must be able to run it
}
