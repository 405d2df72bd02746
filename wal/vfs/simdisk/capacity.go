package simdisk

// Resize sets the capacity in bytes. It may be less than the disk already uses.
func (d *Disk) Resize(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

// Used returns the number of bytes in all files.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Free implements vfs.FS.
func (d *Disk) Free(path string) (free int64, err error) {
	err = d.runReadOnly(Call{Op: Free, Path: path}, func() error {
		free = max(0, d.capacity-d.used)
		return nil
	})
	return free, err
}
