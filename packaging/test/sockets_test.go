//go:build packages

package test

import (
	"strconv"
	"strings"
	"testing"
)

// An operator's own socket unit starts the daemon at the first connection, and keeps its
// sockets open while the daemon is stopped.
func TestSocketUnitStartsTheDaemonOnDemand(t *testing.T) {
	t.Parallel()
	m := boot(t, tree(t))
	m.install(earlier)
	m.write("/etc/systemd/system/collectord.socket", `[Socket]
ListenStream=127.0.0.1:3000
ListenStream=[::1]:3000
ListenDatagram=127.0.0.1:3000
ListenStream=/run/usages
SocketMode=0666
[Install]
WantedBy=sockets.target
`)
	m.write("/etc/systemd/system/collectord.service.d/listen.conf", "[Service]\nEnvironment=COLLECTORD_HTTP_LISTEN=localhost:3000,unix:/run/usages\n")
	m.do("systemctl", "daemon-reload")
	m.do("systemctl", "stop", "collectord")
	m.do("systemctl", "start", "collectord.socket")
	if state := m.unitProperty("ActiveState"); state != "inactive" {
		t.Fatalf("the service is %s", state)
	}
	ids := []string{m.store(`{"patientId":"100"}`)}
	m.awaitState("active")
	// systemd passes the four sockets of the unit. The daemon has opened the others (UDP on ::1,
	// admin), and systemd stores their descriptors.
	if journal := m.do("journalctl", "--output=cat", "--unit=collectord"); !strings.Contains(journal, `"passed_sockets":4`) {
		t.Error("the log lacks the number of passed sockets")
	}
	if got := m.unitProperty("StatusText"); !strings.Contains(got, "usages/s") {
		t.Errorf("status: %s", got)
	}
	m.do("systemctl", "stop", "collectord")
	ids = append(ids, m.store(`{"patientId":"101"}`)) // the connection starts the daemon again
	running := m.pid()
	m.do("kill", "-9", strconv.Itoa(running))
	waitUntil(t, "the daemon has ended", func() bool { return m.pid() != running })
	m.CloseIdleConnections()
	ids = append(ids, m.store(`{"patientId":"102"}`)) // the connection waits for the daemon
	m.ship(ids...)
}
