package httpserver

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Bytes after the last request are read before the connection is closed. Closing it with
// unread bytes would reset it, and the response might be lost.
func TestTheLastResponseIsNotLostToBytesAfterTheRequest(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 10 << 10} { // read with the header, and directly into the body
		log := newMemoryLog()
		_, addr := startServer(t, log, Options{})
		log.appendStarted, log.continueAppend = make(chan struct{}), make(chan struct{})
		v := dialRaw(t, addr)
		body := `{"a":"` + strings.Repeat("x", size) + `"}`
		v.send(fmt.Sprintf("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		<-log.appendStarted
		v.send(strings.Repeat("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))
		log.continueAppend <- struct{}{}
		if status, text := v.readResponse(); status != http.StatusCreated {
			t.Errorf("%d bytes: %d %s", size, status, text)
		}
		if _, err := v.r.ReadByte(); err != io.EOF {
			t.Errorf("%d bytes: then %v", size, err)
		}
	}
}
