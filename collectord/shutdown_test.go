package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/httpserver"
	"collectord/collectord/udpserver"
	"collectord/config"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// hangingStore is a folder whose disk hangs.
type hangingStore struct {
	bucket.Store
	put, free chan struct{}
}

func (s hangingStore) Put(context.Context, *bucket.Object) error {
	close(s.put)
	<-s.free
	return bucket.ErrExists
}

func TestAStopDoesNotWaitForAFolderThatHangs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log, err := wal.Open(dir, wal.Options{Node: "edge-1", CommitTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(t.Context(), wal.Record{Usage: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	folder, err := bucket.Open(bucket.Destination{URL: "file://" + dir + "/archive"})
	if err != nil {
		t.Fatal(err)
	}
	store := hangingStore{folder, make(chan struct{}), make(chan struct{})}
	ship, err := shipper.New(log, store, shipper.Options{SpoolDir: dir + "/spool"})
	if err != nil {
		t.Fatal(err)
	}
	udp, err := udpserver.New(log, nil, udpserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stopShipping := context.WithCancel(t.Context())
	shipped, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(shipped); ship.Run(ctx) }()
	if err := log.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-store.put
	go func() {
		defer close(ended)
		shutDown(config.Shutdown{Seal: 5 * time.Second, Grace: time.Millisecond}, slog.New(slog.DiscardHandler), stopOrder{
			web: httpserver.New(log, httpserver.Options{}), udp: udp, log: log, ship: ship,
			adminServer: admin.New(admin.Options{}), stopShipping: stopShipping, shipped: shipped,
		})
	}()
	select {
	case <-ended:
	case <-time.After(testTimeout):
		t.Error("the stop waits for the folder")
	}
	close(store.free)
	<-shipped
}

// The disk has failed, and the daemon has not tried it again. Nevertheless all acknowledged
// usages are in the log.
func TestAStopInDiskTroubleThatLosesNothingSucceeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, port, adminPort := configure(t, dir, "wal: {min_free: 0}\nshutdown: {grace: 0}\n")
	d := start(t, config, port, adminPort)
	if got := postAs(t, http.DefaultClient, d.url(), ""); got != http.StatusCreated {
		t.Fatalf("a usage is answered %d", got)
	}
	wal, away := filepath.Join(dir, "data", "wal"), filepath.Join(dir, "away")
	if err := os.Rename(wal, away); err != nil {
		t.Fatal(err)
	}
	d.stop() // fails unless the exit status is 0
	if !strings.Contains(d.log(), "can't seal the active segment") {
		t.Error("the disk did not fail")
	}
	if err := os.RemoveAll(wal); err != nil { // the daemon may have made a new directory
		t.Fatal(err)
	}
	if err := os.Rename(away, wal); err != nil {
		t.Fatal(err)
	}
	d = start(t, config, port, adminPort)
	until(t, "the usage is shipped", func() bool { return countObjects(t, dir) == 1 })
	d.stop()
}
