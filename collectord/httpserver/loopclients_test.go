package httpserver

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"collectord/collectord/auth"
)

// loopClient is a client of a loop whose turns the test runs.
type loopClient struct {
	*peer
	loop *loop
	buf  [4 << 10]byte
}

func (n *loopClient) send(t *testing.T, text string) {
	t.Helper()
	n.peer.send(text)
	n.loop.runTurn(t)
}

// readResponse returns the next response, without its date.
func (n *loopClient) readResponse(t *testing.T) string {
	t.Helper()
	for began := time.Now(); time.Since(began) < testTimeout; runtime.Gosched() { // a worker may prepare the request
		n.loop.runTurn(t)
		size, _ := unix.Read(n.fd, n.buf[:]) // the loop writes a small response at once
		if size <= 0 {
			continue
		}
		a, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(n.buf[:size]))), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		if err != nil || a.Close {
			t.Fatal(err, a.Status, string(body))
		}
		a.Header.Del("Date")
		return fmt.Sprintln(a.Status, a.Header, string(body))
	}
	t.Fatal("there is no response")
	return ""
}

// Two clients of one loop, which reads both into the same memory, do not affect each other.
func TestClientsOfOneLoopDoNotAffectEachOther(t *testing.T) {
	t.Parallel()
	tokens, headers := newTokens(t, pairNames[0], pairNames[1])
	log := newMemoryLog()
	l := newManualLoop(t, log, Options{Policy: auth.Policy{Tokens: tokens}})
	p := &pairOfClients{server: l.server, log: log, headers: headers, loop: l}
	for i := range pairNames {
		_, client := l.connectPeer(t, "")
		p.clients[i] = &loopClient{peer: client, loop: l}
	}
	p.interleave(t)
}
