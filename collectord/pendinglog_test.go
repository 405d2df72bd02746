package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"collectord/collectord/httpserver"
	"collectord/collectord/usage"
	"collectord/wal"
)

// While the log opens, the HTTP server reports it and keeps usages waiting instead of
// refusing them, so that clients do not notice a restart.
func TestWhileStartingUsagesWaitAndHealthReportsIt(t *testing.T) {
	pending := newPendingLog()
	web := httpserver.New(pending, httpserver.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ln) }()
	url := "http://" + ln.Addr().String()
	health := func() string {
		resp, err := http.Get(url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		word, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(word))
	}
	post := func(body string) int {
		client := &http.Client{Transport: &http.Transport{}} // a separate connection
		defer client.CloseIdleConnections()
		resp, err := client.Post(url+"/api/usages", "application/json", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := health(); got != "503 starting\n" {
		t.Errorf("before: %s", got)
	}
	if got := post("["); got != http.StatusBadRequest {
		t.Errorf("an invalid usage is answered %d", got)
	}
	posted := make(chan int, 1)
	go func() { posted <- post(`{"a":1}`) }()
	until(t, "the usage waits", func() bool { return web.Connections() >= 2 })

	log, err := wal.Open(t.TempDir(), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	pending.open(log)
	if got := <-posted; got != http.StatusCreated {
		t.Errorf("the usage that waited: %d", got)
	}
	if got := health(); got != "200 ok\n" {
		t.Errorf("after: %s", got)
	}
	g := log.Ledger().BySource[wal.HTTP]
	if g.Appended != 1 || g.Rejected[usage.CodeInvalidJSON] != 1 || g.Received != 2 {
		t.Errorf("ledger %+v", g)
	}
	if err := web.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
