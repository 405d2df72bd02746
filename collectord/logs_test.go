package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// secretMarker is a part of every payload and secret in the tests below.
const secretMarker = "mArKeR"

func TestNoPayloadIsLogged(t *testing.T) {
	t.Parallel() // the test mostly waits
	dir := t.TempDir()
	config, port, admin := configure(t, dir, "wal: {seal_after: 100ms, min_free: 0}\nshipper:\n  "+startMinIO(t, dir)+"\n")
	replaceInFile(t, config, "log: {format: text}", "log: {format: json, level: debug}")
	d := start(t, config, port, admin)
	sendMixed(t, d)
	until(t, "all is shipped", func() bool {
		m := d.metrics()
		return m["collectord_usages_shipped_total"] >= 4 && m["collectord_usages_pending"] == 0
	})
	d.stop()
	if !strings.Contains(d.log(), `"msg":"shipped"`) {
		t.Error("the daemon does not log at debug level")
	}
	checkNotLogged(t, d, testSecret)

	// Then the storage refuses the key.
	if err := os.WriteFile(dir+"/credentials", fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s-secret\n", testUser, secretMarker), 0o600); err != nil {
		t.Fatal(err)
	}
	replaceInFile(t, config, "grace: 1m", "grace: 0s")
	d = start(t, config, port, admin)
	sendMixed(t, d)
	d.untilLogged("can't ship")
	d.stop()
	checkNotLogged(t, d)
}

// No token, token hash, or text from a handshake or certificate is logged. The tokens and
// certificates of this test are valid, invalid, or in an invalid file.
func TestNoTokenIsLogged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	token, line := newToken(t, "ward-3")
	write(t, dir+"/tokens", line+"\n")
	hash := strings.TrimPrefix(strings.Fields(line)[1], "sha256:")
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "log: {format: text}", "log: {format: json, level: debug}")
	replaceInFile(t, config, "http: {", "http: {tokens_file: "+dir+"/tokens, ")
	d := start(t, config, port, admin)
	if got := postAs(t, http.DefaultClient, d.url(), token); got != http.StatusCreated {
		t.Errorf("answered %d", got)
	}
	sendMixed(t, d)
	d.untilLogged(`"reason":"unknown token"`)
	write(t, dir+"/tokens", line+"\n"+token+"\n"+secretMarker+"/"+token+" "+hash+"\n")
	d.rewriteConfig(config, "http: {", fmt.Sprintf("http: {tls: {cert: %s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	d.untilLogged("nothing was changed")
	write(t, dir+"/tokens", line+"\n")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.untilLogged("reloaded the configuration")
	sendMixed(t, d) // plain text to a TLS port
	stranger := newAuthority(t, t.TempDir()).client(secretMarker)
	stranger.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	stranger.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{secretMarker, "http/1.1"}
	if got := postAs(t, stranger, fmt.Sprintf("https://127.0.0.1:%d/api/usages", port), token); got != 0 {
		t.Errorf("answered %d", got)
	}
	d.untilLogged("TLS handshakes fail")
	d.stop()
	checkNotLogged(t, d, token, hash, token[3:30], "PRIVATE KEY")
	if strings.Contains(d.log(), "127.0.0.1:") && strings.Contains(d.log(), "->127") {
		t.Error("addresses of clients are logged")
	}
}

func replaceInFile(t *testing.T, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("no %q in %s: %v", from, path, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkNotLogged(t *testing.T, d *daemon, secrets ...string) {
	t.Helper()
	for line := range strings.Lines(d.log()) {
		for _, secret := range append(secrets, secretMarker) {
			if strings.Contains(strings.ToLower(line), strings.ToLower(secret)) {
				t.Errorf("the line contains a payload: %s", line)
			}
		}
	}
}

// sendMixed sends valid and invalid usages to both servers, with the marker in every part
// of a request.
func sendMixed(t *testing.T, d *daemon) {
	t.Helper()
	raw := func(text string) {
		t.Helper()
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testTimeout))
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // until the server closes the connection
	}
	posts := 0
	post := func(contentType, path, body string) {
		t.Helper()
		posts++
		req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", d.port, path), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Authorization", "Bearer "+secretMarker)
		req.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%d", secretMarker, posts))
		req.Header.Set("User-Agent", secretMarker)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	const object = `{"` + secretMarker + `":"` + secretMarker + `"}`
	post("application/json", "/api/usages", object)
	post("application/json", "/api/usages?"+secretMarker, object)
	post("application/json", "/"+secretMarker, object)
	post("text/"+secretMarker, "/api/usages", object)
	for _, bad := range []string{object[:12], object + secretMarker, `["` + secretMarker + `"]`, `{"` + secretMarker + `":1,"` + secretMarker + `":2}`, `{"` + secretMarker + "\":\"\xff\"}", `{"` + secretMarker + `":99999999999999999999}`, secretMarker} {
		post("application/json", "/api/usages", bad)
	}
	raw("POST /api/usages HTTP/1.1\r\nHost: " + secretMarker + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + secretMarker + secretMarker + "\r\n")
	raw("POST /api/usages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" + object)
	raw(secretMarker + "\r\n\r\n")
	raw("GET / HTTP/1.1\r\n" + secretMarker + "\r\n\r\n")
	raw("GET / " + secretMarker + "/1.1\r\nX: " + secretMarker + "\r\n\r\n")
	raw("GET / HTTP/1.1\r\nX: " + strings.Repeat(secretMarker, 4000) + "\r\n\r\n")

	conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", d.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	before := d.metrics()["collectord_udp_datagrams_total"]
	for _, datagram := range []string{object, object + object[:8] + "\n" + object, secretMarker, "\x00" + secretMarker} {
		if _, err := io.WriteString(conn, datagram); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the datagrams are read", func() bool { return d.metrics()["collectord_udp_datagrams_total"] == before+4 })
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s?%s", d.admin, secretMarker, secretMarker))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestTheLastLineIsTheWholeLedger(t *testing.T) {
	t.Parallel()
	config, port, admin := configure(t, t.TempDir(), "")
	replaceInFile(t, config, "log: {format: text}", "log: {format: json}")
	d := start(t, config, port, admin)
	acks := &acknowledged{ids: map[int]string{}}
	d.post(acks, 0, 100, 4, false)
	sendMixed(t, d)
	d.stop()

	type source struct {
		Received, Accepted, Appended, Repeated, Waiting uint64
		Rejected, Dropped                               map[string]uint64
	}
	var last struct {
		Msg                                               string
		HTTP, UDP                                         source
		Recovered, Shipped, Pending, Quarantined, Evicted uint64
	}
	lines := strings.Split(strings.TrimSpace(d.log()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Msg != "stopped" {
		t.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	sum := func(m map[string]uint64) (n uint64) {
		for _, v := range m {
			n += v
		}
		return n
	}
	for name, g := range map[string]source{"http": last.HTTP, "udp": last.UDP} {
		if g.Received != g.Accepted+sum(g.Rejected) || g.Accepted != g.Appended+g.Repeated+sum(g.Dropped)+g.Waiting {
			t.Errorf("%s does not balance: %+v", name, g)
		}
	}
	if last.HTTP.Appended != 102 || last.UDP.Appended != 3 || last.HTTP.Rejected["invalid_json"] == 0 || last.UDP.Rejected["invalid_json"] == 0 ||
		last.HTTP.Appended+last.UDP.Appended+last.Recovered != last.Shipped+last.Pending+last.Quarantined+last.Evicted {
		t.Errorf("%+v", last)
	}
}

func TestConfigCheckReportsFiveMistakesAtOnce(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/collectord.yaml"
	text := "http:\n  listn: localhost:3000\n  max_record: 1 megabyte\nwal:\n  seal_after: 60\nudp:\n  allow: [10.0.0.0]\nshipper:\n  concurrency: 1e3\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, "config", "check", "--config", path).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitNotRight || !strings.HasPrefix(string(out), "collectord: the configuration has 5 mistakes:\n") {
		t.Errorf("%v: %s", err, out)
	}
	for _, line := range []string{"line 2): is not a key; the nearest is http.listen", "line 3)", "line 5)", "line 7)", "line 9)"} {
		if !strings.Contains(string(out), line) {
			t.Errorf("the output lacks: %s", line)
		}
	}
	t.Logf("%s", out)
}
