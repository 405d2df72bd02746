//go:build torture

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// maxSegmentWear bounds the bytes that the daemon writes for a segment of one usage, from
// the zeros of its file to the object in the folder.
const maxSegmentWear = 200 << 10

// TestASegmentOfOneUsageWearsTheDiskLittle reads the kernel's count of written bytes. The
// daemon's log, spool and archive are on a separate disk.
func TestASegmentOfOneUsageWearsTheDiskLittle(t *testing.T) {
	for name, options := range map[string][]string{"ext4": nil, "ext4 without a journal": {"-O", "^has_journal"}} {
		t.Run(name, func(t *testing.T) {
			requirePrograms(t, "mkfs.ext4", "mount", "umount")
			image := filepath.Join(t.TempDir(), "image")
			mustExec(t, "truncate", "-s", "1G", image)
			mustExec(t, "mkfs.ext4", append(options, "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)...)
			disk, dir := newDataDisk(t, "-o", "loop", image)
			config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper: {destination: 'file://"+disk.path+"/archive'}\n")
			d := start(t, config, port, admin)
			shipped := 0.0
			segments := func(n int) {
				for range n {
					resp, err := http.Post(d.url(), "application/json", strings.NewReader(`{"patientId":"100"}`))
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
						t.Fatal(err)
					}
					shipped++
					until(t, "the segment is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == shipped })
				}
			}
			segments(3) // the first ones also make directories
			const n = 20
			before, device := d.written(), disk.written(t)
			segments(n)
			wear := (d.written() - before) / n
			mustExec(t, "sync")
			t.Logf("a segment of one usage: %d KiB written by the daemon, %d KiB by the device, which includes the file system's own writes", wear>>10, (disk.written(t)-device)/n>>10)
			if wear == 0 || wear > maxSegmentWear {
				t.Errorf("%d bytes are written for a segment of one usage, want at most %d", wear, maxSegmentWear)
			}
			d.stop()
		})
	}
}

// written returns the bytes that the daemon has written to disks.
func (d *daemon) written() (n int64) {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// written returns the bytes that the device below the file system has written.
func (d *disk) written(t *testing.T) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(d.path, &st); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", st.Dev>>8&0xfff, st.Dev&0xff))
	if err != nil {
		t.Fatal(err)
	}
	var fields [7]int64
	for i := range fields {
		var rest string
		if _, err := fmt.Sscan(string(text), &fields[i]); err != nil {
			t.Fatal(err)
		}
		_, rest, _ = strings.Cut(strings.TrimLeft(string(text), " "), " ")
		text = []byte(rest)
	}
	return fields[6] * 512
}
