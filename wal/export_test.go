package wal

import "time"

// WithClock and WithDatasync are for tests that need other packages, too.
func (o Options) WithClock(clock func() time.Time) Options {
	o.clock = clock
	return o
}

// WithDatasync replaces fdatasync(2).
func (o Options) WithDatasync(datasync func(fd int) error) Options {
	o.datasync = datasync
	return o
}
