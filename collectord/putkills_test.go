package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"collectord/shipper/bucket/s3test"
)

var putKills = flag.Int("putkills", 6, "how often the daemon is killed around an upload; 1,000 in make torture")

// fakeS3 runs a fake storage and returns the settings for it.
func fakeS3(t *testing.T, dir string) (*s3test.Server, string) {
	t.Helper()
	f, err := s3test.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	credentials := filepath.Join(dir, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("destination: s3://%s/prod\n  keep: 200ms\n  s3: {endpoint: '%s', credentials_file: %s, region: us-east-1, path_style: on}", s3test.Bucket, f.URL, credentials)
}

// Points of an upload at which the daemon is killed.
const (
	beforeStoring   = iota // the whole request has arrived
	beforeAnswering        // the object is stored
	afterAnswering         // the segment may be removed already
	pointCount
)

// killer kills a daemon at a point of its n-th upload from now.
type killer struct {
	mu     sync.Mutex // guards what follows
	daemon *daemon    // nil for none
	point  int
	puts   int // uploads until the kill
}

func (k *killer) aim(d *daemon, point, puts int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.daemon, k.point, k.puts = d, point, puts
}

func (k *killer) isAimedAt(point int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.daemon != nil && k.point == point
}

// killAt is called at a point of an upload. It reports whether it killed the daemon.
func (k *killer) killAt(point int) bool {
	k.mu.Lock()
	d := k.daemon
	if d == nil || point != k.point {
		k.mu.Unlock()
		return false
	}
	if k.puts--; k.puts > 0 {
		k.mu.Unlock()
		return false
	}
	k.daemon = nil
	k.mu.Unlock()
	if point == afterAnswering {
		go func() {
			<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
			_ = d.cmd.Process.Kill()
		}()
		return true
	}
	_ = d.cmd.Process.Kill()
	<-d.ended
	return true
}

var objectKeyPattern = regexp.MustCompile(`/edge-1-([0-9a-f]{16})-([0-9]{20})-([0-9]{20})-([0-9a-f]{16})\.ndjson\.zst$`)

// storedSeqs returns the seqs in the keys of objects.
func storedSeqs(t *testing.T, f *s3test.Server) (all [][2]int) {
	t.Helper()
	for key := range f.Objects() {
		if strings.Contains(key, "/_collectord/") {
			continue
		}
		m := objectKeyPattern.FindStringSubmatch(key)
		if m == nil {
			t.Errorf("key %s", key)
			continue
		}
		first, _ := strconv.Atoi(m[2])
		last, _ := strconv.Atoi(m[3])
		all = append(all, [2]int{first, last})
	}
	slices.SortFunc(all, func(a, b [2]int) int { return a[0] - b[0] })
	return all
}

// withoutKeep removes shipper.keep for tests in which shipped segments must be removed.
func withoutKeep(settings string) string {
	return strings.Replace(settings, "keep: 200ms", "keep: 0s", 1)
}

// TestKilledAroundAnUploadStoresEverySegmentOnce kills the daemon between a request and its
// answer, and between the answer and the removal of the segment.
func TestKilledAroundAnUploadStoresEverySegmentOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, settings := fakeS3(t, dir)
	config, port, admin := configure(t, dir, "wal: {segment_size: 1MiB, min_free: 0}\nshutdown: {grace: 2m, drain: 0s}\nshipper:\n  retry_min: 10ms\n  retry_max: 20ms\n  "+withoutKeep(settings)+"\n")
	acks := &acknowledged{ids: map[int]string{}}
	var k killer
	f.Behave(s3test.Behaviour{
		Fault: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/dt=") || !k.isAimedAt(beforeStoring) {
				return false
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || k.killAt(beforeStoring) {
				return true
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			return false
		},
		Stored: func(key string) bool {
			if !strings.Contains(key, "/dt=") {
				return false
			}
			if k.killAt(beforeAnswering) {
				return true
			}
			k.killAt(afterAnswering)
			return false
		},
	})
	n, inTheWindow, missed := 0, 0, [pointCount]int{}
	for round := range *putKills {
		d := start(t, config, port, admin)
		k.aim(d, round%pointCount, 1+rand.IntN(3))
		until(t, "the daemon is killed", func() bool {
			select {
			case <-d.ended:
				return true
			default:
			}
			d.post(acks, n, n+3, 1, true)
			n += 3
			_ = d.cmd.Process.Signal(syscall.SIGUSR1)
			return false
		})
		<-d.exited
		stored := false
		for _, r := range storedSeqs(t, f) {
			if _, err := os.Stat(filepath.Join(dir, "data", "wal", fmt.Sprintf("%020d-%020d", r[0], r[1]))); err == nil {
				stored = true
			}
		}
		if stored {
			inTheWindow++
		} else {
			missed[round%pointCount]++
		}
	}
	k.aim(nil, 0, 0)
	d := start(t, config, port, admin)
	d.post(acks, n, n+3, 1, false)
	d.stop()
	records, objects := download(t, config)
	verifyAcknowledged(t, acks, records)
	next := 1
	for _, r := range storedSeqs(t, f) {
		if r[0] != next {
			t.Errorf("after seq %d comes %d", next-1, r[0])
		}
		next = r[1] + 1
	}
	if next-1 != len(records) {
		t.Errorf("seqs up to %d, %d records", next-1, len(records))
	}
	for key, puts := range f.Puts() {
		if puts != 1 && !strings.Contains(key, "/_collectord/") {
			t.Errorf("%s was stored %d times", key, puts)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "data", "wal", "*-*")); len(left) > 0 {
		t.Errorf("left in the log: %v", left)
	}
	t.Logf("%d kills; %d of them left both an object and its segment; the others, before storing, before answering and after answering: %d; %d acknowledged, %d records in %d objects, every seq from 1 to %d once",
		*putKills, inTheWindow, missed, acks.count(), len(records), objects, next-1)
}
