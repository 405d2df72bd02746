package simdisk

// Resize has the disk take capacity bytes from now on, also if there are more.
func (d *Disk) Resize(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

// Used returns how many bytes are on the disk.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Free implements vfs.FS.
func (d *Disk) Free(path string) (free int64, err error) {
	err = d.look(Call{Op: Free, Path: path}, func() error {
		free = max(0, d.capacity-d.used)
		return nil
	})
	return free, err
}
