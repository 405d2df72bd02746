//go:build packages

package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/docs"
)

// imageUser is the user and group of the image.
const imageUser = "65532"

// podman is a podman with separate images, containers, volumes and settings.
type podman struct {
	t   *testing.T
	dir string // contains the script podman; commands of docs/deploy.md run here
}

func newPodman(t *testing.T) podman {
	t.Helper()
	if os.Geteuid() != 0 {
		skipMissing(t, "root")
	}
	requirePrograms(t, "podman", "runc", "ip")
	path, err := exec.LookPath("podman")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "collectord-") // podman accepts no long path
	if err != nil {
		t.Fatal(err)
	}
	p := podman{t, dir}
	p.write("containers.conf", "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=4096:4096\"]\n", 0o644)
	p.write("podman", fmt.Sprintf("#!/bin/sh\nexport CONTAINERS_CONF=%[1]s/containers.conf\n"+
		"exec %[2]s --root %[1]s/root --runroot %[1]s/run --tmpdir %[1]s/tmp --runtime runc --cgroup-manager cgroupfs --events-backend none \"$@\"\n", p.dir, path), 0o755)
	t.Cleanup(func() {
		for _, args := range [][]string{{"rm", "--all", "--force", "--time", "0", "--volumes"}, {"image", "unmount", "--all", "--force"}} {
			if out, err := p.command(args...).CombinedOutput(); err != nil {
				t.Errorf("podman %v: %v: %s", args, err, out)
			}
		}
		_ = unix.Unmount(filepath.Join(dir, "root", "overlay"), unix.MNT_DETACH) // podman's bind mount of the layers
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p podman) write(name, content string, mode fs.FileMode) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), mode); err != nil {
		p.t.Fatal(err)
	}
}

func (p podman) command(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(p.dir, "podman"), args...)
}

// do runs podman, which must not fail, and returns its output.
func (p podman) do(args ...string) string {
	p.t.Helper()
	c := p.command(args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("podman %s: %v: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// shell runs a script of docs/deploy.md and returns its output.
func (p podman) shell(script string, env ...string) string {
	p.t.Helper()
	c := exec.Command("bash", "-ec", script)
	c.Dir = p.dir
	c.Env = append(append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH")), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("%s: %v: %s", script, err, stderr.Bytes())
	}
	return string(out)
}

// build makes the image and returns its id.
func (p podman) build(name, umask string, env ...string) string {
	p.t.Helper()
	c := exec.Command("sh", "-c", `umask "$1" && exec ../image "$2"`, "sh", umask, name)
	c.Env = append(append(os.Environ(), "CONTAINER_ENGINE="+filepath.Join(p.dir, "podman"), "VERSION="+earlier, "SOURCE_DATE_EPOCH=1764000000"), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("packaging/image: %v: %s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// deployBlock returns the only block of sh in docs/deploy.md that contains a word, with a
// user's changes.
func deployBlock(t *testing.T, word string, change ...string) string {
	t.Helper()
	block, err := docs.Block("deploy.md", "sh", word, change...)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// testNetwork makes a network namespace for a container, with a veth pair to the host's.
type testNetwork struct{ namespace, here, there, there6 string }

func newTestNetwork(t *testing.T) testNetwork {
	t.Helper()
	pid := os.Getpid() // parallel runs have different addresses
	name := fmt.Sprintf("cdi-%d", pid)
	address := func(n int) string { return fmt.Sprintf("198.18.%d.%d", pid>>6&0xff, pid<<2&0xff+n) } // RFC 2544, appendix C.2.2
	address6 := func(n int) string { return fmt.Sprintf("fd98:%x::%d", pid&0xffff, n) }
	w := testNetwork{"/run/netns/" + name, address(1), address(2), address6(2)}
	mustExec(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	mustExec(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
	mustExec(t, "ip", "addr", "add", w.here+"/30", "dev", name)
	mustExec(t, "ip", "addr", "add", address6(1)+"/64", "dev", name, "nodad")
	mustExec(t, "ip", "link", "set", name, "up")
	mustExec(t, "ip", "-n", name, "addr", "add", w.there+"/30", "dev", "eth0")
	mustExec(t, "ip", "-n", name, "addr", "add", w.there6+"/64", "dev", "eth0", "nodad")
	mustExec(t, "ip", "-n", name, "link", "set", "eth0", "up")
	mustExec(t, "ip", "-n", name, "link", "set", "lo", "up")
	return w
}

// startMinIO starts a MinIO with TLS outside any container. authority is the file with its
// certificate authority.
func startMinIO(t *testing.T, ip string) (endpoint, authority string) {
	t.Helper()
	minio := os.Getenv("TEST_MINIO")
	if minio == "" {
		t.Fatal("TEST_MINIO names no program: run make package-test")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.ParseIP(ip)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	authority = filepath.Join(dir, "certs", "public.crt")
	err = errors.Join(
		os.MkdirAll(filepath.Join(dir, "data", "usages"), 0o755), os.Mkdir(filepath.Join(dir, "certs"), 0o755),
		os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o644),
		os.WriteFile(filepath.Join(dir, "certs", "private.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(minio, "server", "--quiet", "--address", ip+":9000", "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "data"))
	c.Env = append(os.Environ(), "MINIO_ROOT_USER=operator", "MINIO_ROOT_PASSWORD=not-a-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	waitUntil(t, "the storage listens", func() bool {
		conn, err := net.Dial("tcp", ip+":9000")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "https://" + ip + ":9000", authority
}
