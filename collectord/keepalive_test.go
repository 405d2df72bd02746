//go:build torture

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A client keeps its connection although it is idle for longer than answer_timeout, and
// although commits take longer than header_timeout, with the defaults and a real disk. Each post is answered and
// stored once.
func TestKeepAliveOutlivesIdleTimesAndSlowDisks(t *testing.T) {
	requirePrograms(t, "strace")
	config, port, admin := configure(t, t.TempDir(), "")
	d := start(t, config, port, admin)
	defer d.stop()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	posted := 0.0
	post := func() {
		t.Helper()
		began := time.Now()
		_ = conn.SetDeadline(began.Add(testTimeout))
		posted++
		if _, err := fmt.Fprintf(conn, "POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		a, err := http.ReadResponse(answers, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, a.Body)
		}
		if err != nil || a.StatusCode != http.StatusCreated || a.Close {
			t.Fatalf("post %v: %v %+v after %v", posted, err, a, time.Since(began))
		}
	}
	for range 3 {
		post()
		<-time.After(12 * time.Second)
	}
	slow := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(d.cmd.Process.Pid), "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=7000000")
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	until(t, "commits are slow", func() bool {
		post()
		return time.Since(began) > 7*time.Second
	})
	post()
	_ = slow.Process.Kill()
	_ = slow.Wait()
	post()
	if got := d.metrics()[`collectord_usages_appended_total{source="http"}`]; got != posted {
		t.Errorf("%v posts, %v stored", posted, got)
	}
	if strings.Contains(d.log(), "level=ERROR") {
		t.Error(d.log())
	}
}
