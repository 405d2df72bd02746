//go:build packages

package test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// rpmTree returns a tree, not yet booted, in which the rpm is installed. The preset decides
// whether the service is enabled.
func rpmTree(t *testing.T, preset string) *machine {
	t.Helper()
	root := tree(t)
	requirePrograms(t, "rpm")
	m := &machine{t: t, root: root}
	m.write("/etc/systemd/system-preset/10-test.preset", preset+" collectord.service\n")
	t.Log(mustExec(t, "rpm", "--root", root, "-ivh", "--nodeps", packageFile(t, earlier, "rpm", runtime.GOARCH)))
	return m
}

func TestRpmFollowsThePreset(t *testing.T) {
	t.Parallel()
	enabled := "/etc/systemd/system/multi-user.target.wants/collectord.service"
	if m := rpmTree(t, "disable"); m.exists(enabled) {
		t.Error("the service is enabled against the preset")
	}
	if m := rpmTree(t, "enable"); !m.exists(enabled) {
		t.Error("the service is not enabled, against the preset")
	}
}

func TestRpmIsInstalledUsedUpgradedAndErased(t *testing.T) {
	t.Parallel()
	m := boot(t, rpmTree(t, "enable").root)
	m.awaitState("active")
	if got := m.shell("stat -c '%U:%G %a' /var/lib/collectord"); got != "collectord:collectord 750" {
		t.Errorf("/var/lib/collectord: %s", got)
	}
	first := m.store(`{"patientId":"100"}`)
	m.ship(first)
	old := m.pid()
	m.do("kill", "-9", strconv.Itoa(old))
	waitUntil(t, "the daemon is back after kill -9", func() bool { return m.pid() != old && m.unitProperty("ActiveState") == "active" })

	if got := m.shell("rpm -q --qf '[%{filenames} %{fileflags:fflags}\n]' collectord 2>/dev/null | grep ' .'"); !strings.Contains(got, "/etc/collectord/collectord.yaml cn") {
		t.Errorf("the package's configuration files: %s", got)
	}
	m.configure("# by the operator")
	content, err := os.ReadFile(packageFile(t, later, "rpm", runtime.GOARCH))
	if err != nil {
		t.Fatal(err)
	}
	m.write("/root/collectord.rpm", string(content))
	old = m.pid()
	t.Log(m.do("rpm", "-U", "--nodeps", "/root/collectord.rpm"))
	if m.pid() == old || m.unitProperty("ActiveState") != "active" {
		t.Error("the upgrade did not restart the daemon")
	}
	if got := m.do("collectord", "version"); !strings.HasPrefix(got, "collectord "+later+" ") {
		t.Errorf("version: %s", got)
	}
	if got := m.shell("head -1 /etc/collectord/collectord.yaml"); got != "# by the operator" {
		t.Errorf("the configuration begins with %s", got)
	}
	second := m.store(`{"patientId":"101"}`)
	m.ship(first, second)

	m.store(`{"patientId":"102"}`)
	m.crash()
	out := m.do("rpm", "-e", "collectord")
	t.Log(out)
	if !strings.Contains(out, "usages in /var/lib/collectord that are not shipped: 1.") || !strings.Contains(out, "collectord ship") {
		t.Error("the removal does not print what is left")
	}
	if m.exists("/usr/bin/collectord") || !m.exists("/var/lib/collectord/wal/LOG") {
		t.Error("want the program removed and the data kept")
	}
	if m.exists("/etc/systemd/system/multi-user.target.wants/collectord.service") {
		t.Error("the service is still enabled")
	}
}
