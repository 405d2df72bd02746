//go:build packages

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dpkg installs a deb and returns the output.
func (m *machine) dpkg(file string) (string, error) {
	m.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("/root/collectord.deb", string(content))
	return m.try("dpkg", "--install", "/root/collectord.deb")
}

func (m *machine) install(version string) string {
	m.t.Helper()
	out, err := m.dpkg(deb(m.t, version))
	if err != nil {
		m.t.Fatalf("dpkg: %v: %s", err, out)
	}
	return out
}

// configure inserts a line at the beginning of the configuration.
func (m *machine) configure(line string) {
	m.t.Helper()
	const path = "/etc/collectord/collectord.yaml"
	was, err := os.ReadFile(filepath.Join(m.root, path))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(path, line+"\n"+string(was))
}

func TestInstalledDaemonRunsAndIsRestarted(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	output := m.install(earlier)
	t.Log(output)

	if state, enabled := m.unitProperty("ActiveState"), m.do("systemctl", "is-enabled", "collectord"); state != "active" || enabled != "enabled" {
		t.Fatalf("the service is %s and %s after the installation", state, enabled)
	}
	if got := m.shell("stat -c '%U:%G %a' /var/lib/collectord"); got != "collectord:collectord 750" {
		t.Errorf("/var/lib/collectord: %s", got)
	}
	if got := m.shell("ps -o user= -p " + m.unitProperty("MainPID")); got != "collect+" && got != "collectord" {
		t.Errorf("the daemon runs as user %s", got)
	}
	if got := m.do("collectord", "version"); !strings.HasPrefix(got, "collectord "+earlier+" ") {
		t.Errorf("version: %s", got)
	}
	if got := m.do("collectord", "config", "check"); got != "checked as user collectord, the owner of data_dir (--user NAME: another)\nthe configuration is valid" {
		t.Errorf("the configuration that is installed: %s", got)
	}
	// The kernel has a single value for all network namespaces, so a container may not set it.
	t.Logf("net.core.rmem_max: %s", m.shell("cat /proc/sys/net/core/rmem_max || true"))
	if output := m.do("systemd-analyze", "verify", "--man=no", "collectord.service"); output != "" {
		t.Errorf("systemd-analyze verify: %s", output)
	}
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(m.hostPid()) + "/limits")
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("a crash would leave a core dump: %s%v", limits, err)
	}

	first := m.store(`{"patientId":"100"}`)
	m.ship(first)
	second := m.store(`{"patientId":"101"}`)
	old := m.pid()
	m.do("kill", "-9", strconv.Itoa(old))
	waitUntil(t, "the daemon is back after kill -9", func() bool { return m.pid() != old && m.unitProperty("ActiveState") == "active" })
	if got := m.unitProperty("NRestarts"); got != "1" {
		t.Errorf("%s restarts", got)
	}
	m.ship(first, second)

	t.Run("a reload with a mistake changes nothing", func(t *testing.T) {
		m := *m
		m.t = t
		running := m.pid()
		m.configure("log: {level: loud}")
		out, err := m.try("systemctl", "reload", "collectord")
		if err == nil {
			t.Error("the reload succeeded")
		}
		t.Log(out)
		if m.pid() != running || m.unitProperty("ActiveState") != "active" {
			t.Error("the daemon ended")
		}
		if journal := m.do("journalctl", "--output=cat", "--unit=collectord"); !strings.Contains(journal, "log") || !strings.Contains(journal, "mistake") {
			t.Errorf("the mistake is not named: %s", journal)
		}
		m.shell("sed -i 1d /etc/collectord/collectord.yaml")
		m.shell("sed -i 's/^  # level: info/  level: debug/' /etc/collectord/collectord.yaml")
		m.do("systemctl", "reload", "collectord")
		waitUntil(t, "the reload is counted", func() bool {
			return strings.Contains(m.do("journalctl", "--output=cat", "--unit=collectord"), "log.level: info -> debug")
		})
		if m.pid() != running {
			t.Error("the reload restarted the daemon")
		}
	})
	t.Run("secrets reach the daemon as credentials, also at a reload", func(t *testing.T) {
		m := *m
		m.t = t
		lines := m.do("collectord", "token", "new", "clinic")
		line := regexp.MustCompile(`clinic sha256:[0-9a-f]{64}`).FindString(lines)
		if line == "" {
			t.Fatalf("a token: %s", lines)
		}
		m.write("/etc/collectord/tokens", line+"\n")
		m.shell("chmod 0600 /etc/collectord/tokens")
		m.write("/etc/systemd/system/collectord.service.d/secret.conf", "[Service]\n"+
			"LoadCredential=tokens:/etc/collectord/tokens\nEnvironment=COLLECTORD_HTTP_TOKENS_FILE=tokens\n")
		m.do("systemctl", "daemon-reload")
		m.do("systemctl", "restart", "collectord")
		if _, err := m.post(`{}`); err == nil || !strings.Contains(err.Error(), "unauthorized") {
			t.Errorf("without a token: %v", err)
		}
		if out, err := m.try("systemctl", "reload", "collectord"); err != nil {
			t.Errorf("the reload: %v: %s", err, out)
		}
		waitUntil(t, "the reload is counted", func() bool {
			return m.unitProperty("ActiveState") == "active" && strings.Contains(m.do("journalctl", "--output=cat", "--lines=5", "--unit=collectord"), "reloaded the configuration")
		})
		m.shell("rm -r /etc/systemd/system/collectord.service.d")
		m.do("systemctl", "daemon-reload")
	})
	t.Run("a mistake in the configuration is logged and causes no restart loop", func(t *testing.T) {
		m := *m
		m.t = t
		m.configure("http: {lisen: 'localhost:3000'}")
		if out, err := m.try("systemctl", "restart", "collectord"); err == nil {
			t.Errorf("the restart succeeded: %s", out)
		}
		m.awaitState("failed")
		if status, restarts := m.unitProperty("ExecMainStatus"), m.unitProperty("NRestarts"); status != "78" || restarts != "0" {
			t.Errorf("exit status %s, %s restarts", status, restarts)
		}
		m.do("journalctl", "--sync")
		if journal := m.do("journalctl", "--priority=err", "--output=cat", "--unit=collectord"); !strings.Contains(journal, "http.lisen") {
			t.Errorf("the key is not named: %s", journal)
		}
		// An upgrade neither starts the service nor fails.
		t.Log(m.install(later))
		if state := m.unitProperty("ActiveState"); state != "failed" {
			t.Errorf("the service is %s after the upgrade", state)
		}
	})
}

func TestUpgradeKeepsWhatIsConfiguredAndRestartsOnce(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	if got := m.shell("dpkg-query -W -f '${Conffiles}' collectord"); !strings.HasPrefix(got, " /etc/collectord/collectord.yaml ") {
		t.Errorf("the package's configuration files: %s", got)
	}
	m.configure("# by the operator")
	id := m.store(`{"patientId":"100"}`)
	old := m.pid()
	t.Log(m.install(later))
	if m.pid() == old || m.unitProperty("ActiveState") != "active" {
		t.Error("the daemon was not restarted")
	}
	if got := m.shell("head -1 /etc/collectord/collectord.yaml"); got != "# by the operator" {
		t.Errorf("the configuration begins with %s", got)
	}
	if got := m.do("collectord", "version"); !strings.HasPrefix(got, "collectord "+later+" ") {
		t.Errorf("version: %s", got)
	}
	m.ship(id)

	// An upgrade starts no stopped service and enables no disabled one.
	m.do("systemctl", "stop", "collectord")
	m.install(earlier)
	if state := m.unitProperty("ActiveState"); state != "inactive" {
		t.Errorf("the stopped service is %s after the upgrade", state)
	}
	m.do("systemctl", "start", "collectord")
	m.do("systemctl", "disable", "--now", "collectord")
	m.install(later)
	if state := m.unitProperty("ActiveState"); state != "inactive" {
		t.Errorf("the stopped service is %s after the upgrade", state)
	}
	if out, _ := m.try("systemctl", "is-enabled", "collectord"); out != "disabled" {
		t.Errorf("the disabled service is %s after the upgrade", out)
	}
}

func TestTakenPortDoesNotFailTheInstallation(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	grafana := m.listen("127.0.0.1:3000")
	defer grafana.Close()
	out := m.install(earlier)
	t.Log(out)
	for _, want := range []string{"http.listen", "127.0.0.1:3000", "address already in use"} {
		if !strings.Contains(out, want) {
			t.Errorf("the installation does not name %s", want)
		}
	}
	if got := m.shell("dpkg-query -W -f '${db:Status-Abbrev}' collectord"); got != "ii " {
		t.Errorf("the package is %q", got)
	}
	grafana.Close()
	m.awaitState("active")
	m.store(`{"patientId":"100"}`)
}

func TestMistakeInTheConfigurationDoesNotFailTheInstallation(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	m.do("dpkg", "--remove", "collectord") // the configuration stays
	m.configure("http: {lisen: 'localhost:3000'}")
	out := m.install(later)
	t.Log(out)
	if !strings.Contains(out, "http.lisen") {
		t.Error("the installation does not name the key")
	}
	if status, restarts := m.unitProperty("ExecMainStatus"), m.unitProperty("NRestarts"); status != "78" || restarts != "0" {
		t.Errorf("exit status %s, %s restarts", status, restarts)
	}
}

func TestPolicyAgainstStartingServicesIsRespected(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
	m.do("chmod", "+x", "/usr/sbin/policy-rc.d")
	m.install(earlier)
	if state := m.unitProperty("ActiveState"); state != "inactive" {
		t.Errorf("the service is %s", state)
	}
	if enabled := m.do("systemctl", "is-enabled", "collectord"); enabled != "enabled" {
		t.Errorf("the service is %s", enabled)
	}
	m.do("systemctl", "start", "collectord")
	old := m.pid()
	m.install(later)
	if m.pid() != old {
		t.Error("the daemon was restarted")
	}
}

// Without a running systemd, such as in an image or a chroot, everything is installed and
// nothing is started. The script adds the user and the directory, and sets the sysctl, with
// the available tools.
func TestPackageInstallsWithoutSystemd(t *testing.T) {
	t.Parallel()
	for name, missing := range map[string][]string{
		"systemd is installed but does not run": nil,
		"systemd is not installed":              {"/usr/bin/systemd-sysusers", "/usr/bin/systemd-tmpfiles", "/usr/lib/systemd/systemd-sysctl"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{t: t, root: tree(t)}
			for _, program := range missing {
				if err := os.Remove(filepath.Join(m.root, program)); err != nil {
					t.Fatal(err)
				}
			}
			// A file takes the place of the kernel's sysctl.
			const limit = "/proc/sys/net/core/rmem_max"
			m.write(limit, "212992\n")
			content, err := os.ReadFile(deb(t, earlier))
			if err != nil {
				t.Fatal(err)
			}
			m.write("/root/collectord.deb", string(content))
			t.Log(m.chroot("/usr/bin/dpkg", "--install", "/root/collectord.deb"))
			if got := m.chroot("/usr/bin/stat", "-c", "%U:%G %a", "/var/lib/collectord"); got != "collectord:collectord 750\n" {
				t.Errorf("/var/lib/collectord: %s", got)
			}
			if got, err := os.ReadFile(filepath.Join(m.root, limit)); err != nil || strings.TrimSpace(string(got)) != "16777216" {
				t.Errorf("net.core.rmem_max: %s%v", got, err)
			}
			t.Log(m.chroot("/usr/bin/dpkg", "--purge", "collectord"))
			if m.exists("/var/lib/collectord") {
				t.Error("the empty directory was not removed")
			}
		})
	}
}

// chroot runs a program in a tree that is not booted.
func (m *machine) chroot(args ...string) string {
	m.t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	c.Dir = "/"
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}
