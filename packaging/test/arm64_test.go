//go:build packages

package test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestArm64ProgramLosesNothingWhenItIsKilled(t *testing.T) {
	t.Parallel()
	requirePrograms(t, "dpkg-deb")
	var emulator []string
	if runtime.GOARCH != "arm64" {
		emulator = []string{"qemu-aarch64-static"}
		if _, err := exec.LookPath(emulator[0]); err != nil {
			emulator[0] = "qemu-aarch64"
		}
		requirePrograms(t, emulator[0])
	}
	dir := t.TempDir()
	mustExec(t, "dpkg-deb", "--extract", packageFile(t, earlier, "deb", "arm64"), dir)
	command := func(args ...string) *exec.Cmd {
		all := append(append([]string{}, emulator...), filepath.Join(dir, "usr/bin/collectord"))
		all = append(all, args...)
		return exec.Command(all[0], all[1:]...)
	}
	output, err := command("version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(output), "collectord "+earlier+" ") {
		t.Fatalf("version: %v: %s", err, output)
	}
	t.Logf("%s", output)

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	settings := []string{"--config", os.DevNull, "--data-dir", filepath.Join(dir, "data")}
	start := func() *exec.Cmd {
		c := command(append([]string{"run", "--http-listen", address, "--udp-listen", "off", "--admin-listen", "off", "--seal-after", "1h"}, settings...)...)
		var log bytes.Buffer
		c.Stderr = &log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = c.Process.Kill()
			_ = c.Wait()
			if t.Failed() {
				t.Log(log.String())
			}
		})
		waitUntil(t, "the daemon is up", func() bool {
			answer, err := http.Get("http://" + address + "/healthz")
			if err != nil {
				return false
			}
			answer.Body.Close()
			return answer.StatusCode == http.StatusOK
		})
		return c
	}
	m := &machine{t: t}
	daemon := start()
	id, err := m.postTo(address, `{"patientId":"100"}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = daemon.Wait()
	start() // the new process seals and ships the segment that the crash left
	waitUntil(t, "the record is in the archive", func() bool {
		out, err := command(append([]string{"cat"}, settings...)...).Output()
		return err == nil && strings.Contains(string(out), fmt.Sprintf(`{"id":"%s"`, id)) && strings.Contains(string(out), `"usage":{"patientId":"100"}`)
	})
}
