package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"collectord/shipper/bucket"
)

// minIO is a MinIO process for a measurement, with one bucket.
type minIO struct {
	server   *exec.Cmd
	dir      string
	options  bucket.S3Options
	settings string // configuration of a collectord that uses it
}

// startMinIO starts a MinIO with its data in dir. It returns nil if MinIO is not
// installed.
func startMinIO(dir string) (*minIO, error) {
	program := filepath.Join(os.Getenv("HOME"), ".cache", "collectord-tools", "bin", "minio")
	if path := os.Getenv("TEST_MINIO"); path != "" {
		program = path
	}
	if _, err := os.Stat(program); err != nil {
		return nil, nil //nolint:nilerr,nilnil // MinIO is optional
	}
	// MinIO treats a directory that exists at its start as a bucket.
	if err := os.MkdirAll(filepath.Join(dir, "minio", "usages"), 0o750); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	credentials := filepath.Join(dir, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = bench\naws_secret_access_key = bench-secret\n"), 0o600); err != nil {
		return nil, err
	}
	m := &minIO{
		server: exec.Command(program, "server", "--quiet", "--address", addr, filepath.Join(dir, "minio")), dir: dir,
		options:  bucket.S3Options{Endpoint: "http://" + addr, Region: "us-east-1", CredentialsFile: credentials},
		settings: fmt.Sprintf("shipper: {destination: 's3://usages', s3: {endpoint: 'http://%s', region: us-east-1, credentials_file: '%s'}}\n", addr, credentials),
	}
	m.server.Env = append(os.Environ(), "MINIO_ROOT_USER=bench", "MINIO_ROOT_PASSWORD=bench-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := m.server.Start(); err != nil {
		return nil, err
	}
	if err := waitFor("http://" + addr + "/minio/health/ready"); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

func (m *minIO) stop() {
	_ = m.server.Process.Kill()
	_ = m.server.Wait()
	_ = os.RemoveAll(m.dir)
}

// cpu returns the CPU time of the server so far, in seconds.
func (m *minIO) cpu() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.server.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100 // USER_HZ
}
