//go:build packages

package test

import (
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestImageContainsTheProgramAndIsReproducible(t *testing.T) {
	t.Parallel()
	p := newPodman(t)
	id := p.build("collectord", "022")
	if again := p.build("again", "077"); again != id {
		t.Errorf("two builds have the ids %s and %s", id, again)
	}
	root := p.do("image", "mount", "collectord")
	var entries []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if children, _ := os.ReadDir(path); !e.IsDir() || len(children) == 0 {
			owner := info.Sys().(*syscall.Stat_t)
			entries = append(entries, fmt.Sprintf("%s %d:%d %s", info.Mode(), owner.Uid, owner.Gid, strings.TrimPrefix(path, root)))
		}
		return nil
	})
	want := []string{
		"-rw-r--r-- 0:0 /etc/ssl/certs/ca-certificates.crt",
		"-rwxr-xr-x 0:0 /usr/bin/collectord",
		"-rw-r--r-- 0:0 /usr/share/licenses/collectord/LICENSE",
		"drwxr-x--- " + imageUser + ":" + imageUser + " /var/lib/collectord",
	}
	if err != nil || !slices.Equal(entries, want) {
		t.Errorf("%v: the image contains\n%s", err, strings.Join(entries, "\n"))
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names[c.Subject.CommonName] = true
	}
	if len(names) < 100 || !names["Amazon Root CA 1"] || !names["ISRG Root X1"] {
		t.Errorf("the image trusts %v", names)
	}
	t.Logf("%d authorities, %s bytes", len(names), p.do("image", "inspect", "--format", "{{.Size}}", "collectord"))

	if output := p.do("run", "--rm", "--network", "none", "collectord", "version"); !strings.HasPrefix(output, "collectord "+earlier+" ") {
		t.Errorf("version: %s", output)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	p.build("other", "022", "GOARCH="+other)
	if got := p.do("image", "inspect", "--format", "{{.Architecture}}", "other"); got != other {
		t.Errorf("the image for %s is marked as for %s", other, got)
	}
	program, err := elf.Open(filepath.Join(p.do("image", "mount", "other"), "usr/bin/collectord"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[other]; program.Machine != want {
		t.Errorf("the program in the image is for %v", program.Machine)
	}
}

func TestImageNeedsAccessControlOrAnExplicitOptOut(t *testing.T) {
	t.Parallel()
	p := newPodman(t)
	p.build("collectord", "022")
	const http, udp = "http.listen (COLLECTORD_HTTP_LISTEN)", "udp.listen (COLLECTORD_UDP_LISTEN)"
	for _, c := range []struct{ env, refused []string }{
		{nil, []string{http, "COLLECTORD_HTTP_TOKENS_FILE", "COLLECTORD_HTTP_ANONYMOUS=true", udp, "COLLECTORD_UDP_ALLOW", "COLLECTORD_UDP_LISTEN=off"}},
		{[]string{"COLLECTORD_HTTP_ANONYMOUS=true"}, []string{udp}},
		{[]string{"COLLECTORD_UDP_LISTEN=off"}, []string{http}},
		{[]string{"COLLECTORD_HTTP_ANONYMOUS=true", "COLLECTORD_UDP_ALLOW=192.0.2.0/24"}, nil},
	} {
		args := []string{"run", "--name", "refused", "--network", "none", "--read-only", "--cap-drop", "all"}
		for _, variable := range c.env {
			args = append(args, "--env", variable)
		}
		p.do(append(args, "--detach", "collectord")...)
		logs := ""
		waitUntil(t, "the container runs or has ended", func() bool {
			state := p.do("inspect", "--format", "{{.State.Status}}", "refused")
			out, err := p.command("logs", "refused").CombinedOutput()
			logs = string(out)
			return err == nil && (state == "exited" || strings.Contains(logs, "collectord is running"))
		})
		p.do("stop", "refused")
		status := p.do("inspect", "--format", "{{.State.ExitCode}}", "refused")
		if want := map[bool]string{true: "0", false: "78"}[c.refused == nil]; status != want {
			t.Errorf("with %v the container exits with %s, want %s: %s", c.env, status, want, logs)
		}
		for _, want := range c.refused {
			if !strings.Contains(logs, want) {
				t.Errorf("with %v the log does not name %s: %s", c.env, want, logs)
			}
		}
		if len(c.env) == 1 && strings.Contains(logs, map[string]string{http: udp, udp: http}[c.refused[0]]) {
			t.Errorf("with %v the log also names the listener that is configured: %s", c.env, logs)
		}
		p.do("rm", "--volumes", "refused")
	}
}
