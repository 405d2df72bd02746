//go:build torture

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestDefaultConfigurationStartsWithOneFamily runs the daemon and the client on a host
// without IPv6, and on one without IPv4.
func TestDefaultConfigurationStartsWithOneFamily(t *testing.T) {
	requirePrograms(t, "ip", "sysctl")
	without := map[string]struct {
		command, there, missing string
		starts                  bool
	}{
		"IPv6":   {"sysctl -q -w net.ipv6.conf.all.disable_ipv6=1", "127.0.0.1:3000", "tcp [::1]:3000", true},
		"IPv4":   {"ip addr del 127.0.0.1/8 dev lo", "[::1]:3000", "tcp 127.0.0.1:3000", true},
		"either": {"sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 && ip addr del 127.0.0.1/8 dev lo", "", "", false},
	}
	for what, c := range without {
		t.Run(what, func(t *testing.T) {
			n := newNetwork(t, "no-"+strings.ToLower(what))
			n.run("ip", "link", "set", "lo", "up")
			n.run("sh", "-c", c.command)
			inside := func(args ...string) *exec.Cmd {
				return exec.Command("ip", append([]string{"netns", "exec", n.name}, command(t, args...).Args...)...)
			}
			run := []string{"run", "--data-dir", t.TempDir() + "/data", "--log-format", "text"}
			if !c.starts {
				if out, err := inside(run...).CombinedOutput(); err == nil || !strings.Contains(string(out), "http.listen: listen tcp") {
					t.Errorf("%v: %s", err, out)
				}
				return
			}
			d := startCommand(t, inside(run...), 3000, 3001)
			to := "localhost:3000"
			if what == "IPv4" {
				to = c.there // /etc/hosts may have localhost only for IPv4
			}
			for _, target := range []string{"http://" + to, "udp://" + to} {
				if out, err := inside("send", target, "--count", "10").CombinedOutput(); err != nil {
					t.Errorf("%s: %v: %s", target, err, out)
				}
			}
			d.stop()
			if got := strings.Count(d.log(), "this host does not have their address family"); got != 1 || !strings.Contains(d.log(), c.missing) || !strings.Contains(d.log(), c.there) {
				t.Errorf("%d lines on the missing family:\n%s", got, d.log())
			}
			if !strings.Contains(d.log(), "http.appended=10 ") || !strings.Contains(d.log(), "udp.appended=10 ") {
				t.Error("not all usages were appended")
			}

			// A wildcard still stands for a socket of each family. The daemon also stops cleanly.
			both := append(run, "--http-listen", "off", "--udp-listen", ":3000")
			wild := inside(both...)
			wild.Env = append(os.Environ(), "COLLECTORD_UDP_ALLOW=0.0.0.0/0,::/0")
			d = startCommand(t, wild, 3000, 3001)
			if out, err := inside("send", "udp://"+to, "--count", "10").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			d.stop()
			if !strings.Contains(d.log(), "udp.appended=10 ") || strings.Contains(d.log(), "may be unread") {
				t.Errorf("a wildcard of both families:\n%s", d.log())
			}

			// An explicit address of the missing family is an error.
			missing := strings.Fields(c.missing)[1]
			if out, err := inside(append(run, "--http-listen", missing)...).CombinedOutput(); err == nil || !strings.Contains(string(out), missing+": bind: cannot assign requested address") {
				t.Errorf("%s: %v: %s", missing, err, out)
			}
		})
	}
}
