//go:build torture

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"collectord/docs"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/storages"
)

// These tests read the bucket with other programs, as docs/queries.md shows. Run them with
// make readers.

func queriesPage(t *testing.T) string {
	t.Helper()
	return readFile(t, "../docs/queries.md")
}

// fromQueries returns the only code block of a language in docs/queries.md that contains
// word. It replaces old texts with new ones, in pairs, as a user would.
func fromQueries(t *testing.T, language, word string, change ...string) string {
	t.Helper()
	block, err := docs.Block("queries.md", language, word, change...)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// sendMedications posts batches of usages, and has each batch shipped.
func sendMedications(t *testing.T, d *daemon, rounds int) (sent map[string]int) {
	t.Helper()
	sent = map[string]int{}
	for i := range rounds {
		var usages []string
		for j := range 100 + i {
			medication := []string{"salbutamol", "fluticasone", "budesonide, \"dry\" é"}[(i+j)%3]
			sent[medication]++
			text, _ := json.Marshal(medication)
			// Types differ from usage to usage, since usages need not follow a schema.
			usages = append(usages, fmt.Sprintf(`{"medication":%s,"puffs":%s,"more":%s}`, text, []string{"1", `"2"`, "null"}[j%3], []string{"{}", "[1,{}]", "1e300"}[j%3]))
		}
		resp, err := http.Post(d.url(), "application/json", strings.NewReader("["+strings.Join(usages, ",")+"]"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatal(resp.Status)
		}
		if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		until(t, "the batch is shipped", func() bool { return d.metrics()["collectord_usages_pending"] == 0 })
	}
	return sent
}

// webhook gets the storage's notifications and reads each object at once.
type webhook struct {
	mu    sync.Mutex
	fired map[string]int
	wrong []error
	store bucket.Store
}

func (h *webhook) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	var event struct{ EventName, Key string }
	err := json.NewDecoder(req.Body).Decode(&event)
	if event.Key == "" { // MinIO checks whether the address answers
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	key, plain := url.QueryUnescape(event.Key)
	key = strings.TrimPrefix(key, "usages/prod/")
	h.fired[key]++
	if err = errors.Join(err, plain, h.read(key)); err != nil || event.EventName != "s3:ObjectCreated:Put" {
		h.wrong = append(h.wrong, fmt.Errorf("%s of %s: %w", event.EventName, key, err))
	}
}

// read returns nil if the object is whole.
func (h *webhook) read(key string) error {
	body, there, err := h.store.Open(context.Background(), key)
	if err != nil {
		return err
	}
	defer body.Close()
	lines, err := bucket.NewReader(body, there.Size)
	if err != nil {
		return err
	}
	defer lines.Close()
	sum := sha256.New()
	for err == nil {
		var some []byte
		some, err = lines.Lines()
		sum.Write(some)
	}
	if !errors.Is(err, io.EOF) || there.SHA256 != hex.EncodeToString(sum.Sum(nil)) {
		return fmt.Errorf("the object is not whole: %w, %+v", err, there)
	}
	return nil
}

func (h *webhook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.fired)
}

func TestANotificationFiresOnceForEachObjectWhichIsWholeThen(t *testing.T) {
	if _, err := os.Stat(filepath.Join(storages.Tools(), "mc")); err != nil {
		skipMissing(t, "mc (make readers builds it)")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hook := &webhook{fired: map[string]int{}}
	server := &http.Server{Handler: hook, ReadHeaderTimeout: time.Minute}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })

	for line := range strings.Lines(fromQueries(t, "sh", "MINIO_NOTIFY_WEBHOOK", "http://processor.example/usages", "http://"+ln.Addr().String()+"/usages")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			t.Setenv(strings.TrimPrefix(name, "export "), value)
		}
	}
	dir := t.TempDir()
	settings := startMinIO(t, dir)
	config, port, admin := configure(t, dir, "wal: {min_free: 0}\nshipper:\n  "+settings+"\n")
	hook.store = storeOf(t, config)
	endpoint := regexp.MustCompile(`http://[0-9.:]+`).FindString(settings)
	script := fromQueries(t, "sh", "mc event add", "http://minio.example:9000", endpoint, "KEY SECRET", testUser+" "+testSecret)
	cmd := exec.Command("bash", "-ec", script)
	cmd.Env = append(os.Environ(), "PATH="+storages.Tools()+":"+os.Getenv("PATH"), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	d := start(t, config, port, admin)
	const rounds = 20
	sendMedications(t, d, rounds)
	until(t, "each object has caused a notification", func() bool { return hook.count() == rounds })
	// A put after a lost answer finds the object already stored. It causes no notification.
	again := 0
	for key := range hook.fired {
		m, err := hook.store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		text := []byte("again")
		err = hook.store.Put(t.Context(), &bucket.Object{Key: key, Body: bytes.NewReader(text), Size: int64(len(text)), CRC32C: 0x9b1c5f5c, Metadata: m.Metadata})
		if errors.Is(err, bucket.ErrExists) {
			again++
		}
	}
	sendMedications(t, d, 1)
	until(t, "the last object has caused a notification", func() bool { return hook.count() == rounds+1 })
	hook.mu.Lock()
	defer hook.mu.Unlock()
	for key, n := range hook.fired {
		if n != 1 || !strings.HasPrefix(key, "dt=") {
			t.Errorf("%s caused %d notifications", key, n)
		}
	}
	if err := errors.Join(hook.wrong...); err != nil || again != rounds {
		t.Errorf("%d of %d puts found their object already stored; %v", again, rounds, err)
	}
}
