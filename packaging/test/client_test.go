//go:build packages

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// inside calls a function on a thread in the machine's network namespace.
func (m *machine) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.leader))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.inside(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (m *machine) listen(address string) net.Listener {
	m.t.Helper()
	var ln net.Listener
	if err := m.inside(func() (err error) { ln, err = net.Listen("tcp", address); return err }); err != nil {
		m.t.Fatal(err)
	}
	return ln
}

// post sends a usage and returns its id or an error.
func (m *machine) post(usage string) (id string, err error) { return m.postTo("127.0.0.1:3000", usage) }

func (m *machine) postTo(address, usage string) (id string, err error) {
	answer, err := m.Post("http://"+address+"/api/usages", "application/json", strings.NewReader(usage))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s", answer.Status, body)
	}
	_, rest, _ := bytes.Cut(body, []byte(`{"id":"`))
	found, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return "", errors.New("an answer without an id")
	}
	return string(found), nil
}

// store posts a usage that must be accepted.
func (m *machine) store(usage string) string {
	m.t.Helper()
	id, err := m.post(usage)
	if err != nil {
		m.t.Fatal(err)
	}
	return id
}

// ship triggers shipping and waits until the archive contains these ids.
func (m *machine) ship(ids ...string) {
	m.t.Helper()
	m.do("systemctl", "kill", "--signal=USR1", "collectord.service")
	waitUntil(m.t, "the archive contains the posted usages", func() bool {
		out, err := m.try("collectord", "cat")
		for _, id := range ids {
			if !strings.Contains(out, id) {
				return false
			}
		}
		return err == nil
	})
}
