package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// recordProfile profiles the daemon under each kind of load, and writes a merged profile
// for the compiler (profile-guided optimization). The profile does not contain the path of
// the binary.
func recordProfile(seconds int, binary, dir, file string) error {
	d, err := startDaemon(binary, dir, "wal: {max_bytes: 32GiB, min_free: 1GiB, when_full: drop_oldest}\nshutdown: {grace: 0s}\n")
	if err != nil {
		return err
	}
	defer d.stop()
	batches := func(more ...string) []string {
		return append([]string{d.url, "--connections", "16", "--batch", "1000", "--prepare", "64"}, more...)
	}
	args := []string{"tool", "pprof", "-proto"}
	for i, load := range [][]string{
		{d.url, "--connections", "100"},
		{d.url, "--connections", "256"},
		batches(),
		batches("--ndjson"),
		batches("--ndjson", "--compress", "zstd"),
		batches("--compress", "gzip"),
		{"udp://" + d.addr, "--rate", "150000"},
		{"udp://" + d.addr, "--rate", "1000000", "--batch", "14", "--prepare", "64"},
	} {
		profile := filepath.Join(dir, strconv.Itoa(i)+".pb.gz")
		recorded := make(chan error, 1)
		go func() {
			recorded <- download(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", d.admin, seconds), profile)
		}()
		s, err := runSend(binary, seconds+1, load...)
		if s.UsagesUnsent > 0 && s.Datagrams > 0 {
			err = nil // a slow machine sends fewer datagrams than asked for
		}
		if err := errors.Join(err, <-recorded); err != nil {
			return err
		}
		args = append(args, profile)
	}
	merged, err := exec.Command("go", args...).Output()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w", err)
	}
	unzip, err := gzip.NewReader(bytes.NewReader(merged))
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(unzip)
	if err != nil {
		return err
	}
	plain = bytes.ReplaceAll(plain, []byte(binary), bytes.Repeat([]byte("-"), len(binary))) // same length, since the profile stores strings with a length prefix
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if _, err := zip.Write(plain); err != nil {
		return err
	}
	return errors.Join(zip.Close(), os.WriteFile(file, out.Bytes(), 0o644))
}

func download(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return errors.Join(err, os.WriteFile(file, body, 0o600))
}
