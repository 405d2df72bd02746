//go:build packages

package test

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const credentials = "[default]\naws_access_key_id = operator\naws_secret_access_key = not-a-secret\n"

// newHost boots a machine with the package, two sending devices, a MinIO and a Prometheus.
// Its data_dir is on a small separate disk.
func newHost(t *testing.T) *host {
	t.Helper()
	minio := os.Getenv("TEST_MINIO")
	prometheus := filepath.Join(filepath.Dir(minio), "prometheus")
	for _, program := range []string{minio, prometheus} {
		if _, err := os.Stat(program); err != nil {
			skipMissing(t, err.Error())
		}
	}
	root := tree(t)
	h := &host{disk: filepath.Join(root, "var/lib/collectord"), bucket: t.TempDir(), user: "operator", port: 9000}
	image := filepath.Join(t.TempDir(), "disk")
	mustExec(t, "mkdir", "-p", h.disk)
	mustExec(t, "truncate", "--size=400M", image)
	mustExec(t, "mkfs.ext4", "-q", image)
	mustExec(t, "mount", "-o", "loop", image, h.disk)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", h.disk).Run() })
	h.machine = boot(t, root)
	h.install(earlier)
	if err := os.Mkdir(filepath.Join(h.bucket, "usages"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.startStorage()
	t.Cleanup(h.stopStorage)

	tokens, lines := []string(nil), ""
	for _, device := range []string{"inhaler-1", "inhaler-2"} {
		created := strings.Split(h.shell("collectord token new "+device+" 2>/dev/null"), "\n")
		tokens, lines = append(tokens, created[0]), lines+created[1]+"\n"
	}
	h.write("/etc/collectord/s3-credentials", credentials)
	h.write("/etc/collectord/tokens", lines)
	h.shell("chmod 0600 /etc/collectord/s3-credentials /etc/collectord/tokens")
	h.write("/etc/systemd/system/collectord.service.d/secret.conf", "[Service]\n"+
		"LoadCredential=s3-credentials:/etc/collectord/s3-credentials\nLoadCredential=tokens:/etc/collectord/tokens\n")
	h.do("systemctl", "daemon-reload")
	h.shipTo(shippingTo)
	for i, token := range tokens {
		h.sendAs(t, token, func() bool { return i == 0 || !h.silent.Load() })
	}
	h.startPrometheus(t, prometheus)
	return h
}

// shipTo restarts the daemon with a destination.
func (h *host) shipTo(destination string) {
	h.t.Helper()
	h.write("/etc/collectord/collectord.yaml", `node: edge-1
data_dir: /var/lib/collectord
shutdown: {grace: 0s}
http: {tokens_file: tokens}
wal: {segment_size: 4MiB, max_bytes: 256MiB, min_free: 4MiB, seal_after: 5s, seal_small_after: 5s}
shipper: {destination: '`+destination+`', heartbeat: 1s, keep: 2s, retry_max: 2s, retry_max_permanent: 2s, s3: {endpoint: 'http://127.0.0.1:9000', region: us-east-1}}
`)
	h.restart()
}

func (h *host) restart() {
	h.t.Helper()
	h.do("rm", "-f", "/etc/systemd/system/collectord.service.d/crash.conf")
	h.do("systemctl", "daemon-reload")
	h.do("systemctl", "restart", "collectord")
}

// sendAs posts usages with a token while maySend allows it, until the test ends.
func (h *host) sendAs(t *testing.T, token string, maySend func() bool) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-stopped })
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			if !maySend() {
				continue
			}
			r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:3000/api/usages", strings.NewReader(`{"patientId":"100"}`))
			if err != nil {
				continue
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+token)
			if answer, err := h.Do(r); err == nil {
				answer.Body.Close()
			}
		}
	}()
}

func (h *host) startStorage() {
	h.t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", h.port)
	h.minio = exec.Command(os.Getenv("TEST_MINIO"), "server", "--quiet", "--address", address, h.bucket)
	h.minio.Env = append(os.Environ(), "MINIO_ROOT_USER="+h.user, "MINIO_ROOT_PASSWORD=not-a-secret", "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := h.inside(h.minio.Start); err != nil {
		h.t.Fatal(err)
	}
	h.waitReady("the storage", "http://"+address+"/minio/health/ready")
}

func (h *host) stopStorage() {
	_ = h.minio.Process.Kill()
	_ = h.minio.Wait()
}

// waitReady waits until a server is ready.
func (h *host) waitReady(what, address string) {
	h.t.Helper()
	waitUntil(h.t, what+" is ready", func() bool {
		answer, err := h.Get(address)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// startPrometheus starts a Prometheus in which a minute of the rules takes a second, and a
// day 24 seconds.
func (h *host) startPrometheus(t *testing.T, program string) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("../monitoring/collectord.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(for: |\[|offset )(\d+)m\b`).ReplaceAllString(string(text), "${1}${2}s")
	rules = regexp.MustCompile(`(for: |\[|offset )(\d+)h\b`).ReplaceAllString(rules, "${1}${2}m")
	rules = strings.NewReplacer(" 24 * 3600", " 24", " * 3600", " * 60", " * 60", "").Replace(rules)
	config := "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [rules.yml]\n" +
		"scrape_configs: [{job_name: collectord, static_configs: [{targets: ['127.0.0.1:3001']}]}]\n"
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:9090", "--query.lookback-delta=5s", "--log.level=error")
	if err := h.inside(c.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	h.prometheus = "http://127.0.0.1:9090"
	h.waitReady("Prometheus", h.prometheus+"/-/ready")
}

// shiftClock starts a proxy between the daemon and the storage. It changes dates so that
// the daemon's clock seems to be ahead.
func (h *host) shiftClock(by time.Duration) *http.Server {
	h.t.Helper()
	target := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", h.port)}
	const signed = "20060102T150405Z"
	proxy := &http.Server{Handler: &httputil.ReverseProxy{
		Transport: &http.Transport{DialContext: h.dial},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers the host
			if at, err := time.Parse(signed, r.In.Header.Get("X-Amz-Date")); err == nil {
				r.Out.Header.Set("X-Amz-Date", at.Add(by).Format(signed))
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Date", time.Now().Add(-by).UTC().Format(http.TimeFormat))
			return nil
		},
	}}
	ln := h.listen("127.0.0.1:9000")
	go func() { _ = proxy.Serve(ln) }()
	h.t.Cleanup(func() { _ = proxy.Close() })
	return proxy
}

func (h *host) fillDisk() {
	h.t.Helper()
	h.shell("dd if=/dev/zero of=/var/lib/collectord/other-data bs=64k status=none || true")
}

func (h *host) freeDisk() {
	h.t.Helper()
	h.shell("rm /var/lib/collectord/other-data")
}

// damageSegment flips a bit of a segment that waits to be shipped.
func (h *host) damageSegment() {
	h.t.Helper()
	h.stopStorage()
	var file string
	waitUntil(h.t, "a segment is sealed", func() bool {
		files, _ := filepath.Glob(filepath.Join(h.disk, "wal", "0*-0*", "*"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Size() > 1000 && info.ModTime().After(h.began) {
				file = f
				return true
			}
		}
		return false
	})
	content, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	at := len(content) / 2
	out, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteAt([]byte{content[at] ^ 0x10}, int64(at)); err != nil {
		h.t.Fatal(err)
	}
	h.t.Logf("a bit of %s is flipped, at byte %d", strings.TrimPrefix(file, h.disk), at)
	h.startStorage()
}
