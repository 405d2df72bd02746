package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"collectord/collectord/testrun"
)

// authority signs certificates for servers and clients on this host.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string // of its certificate
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{t: t, path: filepath.Join(dir, "ca.pem")}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(a.path, "CERTIFICATE", der)
	return a
}

func (a *authority) write(path, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate and its key.
func (a *authority) issue(name, cert, key string, until time.Time) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(cert, "CERTIFICATE", der)
	a.write(key, "PRIVATE KEY", keyDER)
}

// client returns an HTTP client that trusts the authority. It has a client certificate
// unless the name is empty.
func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	config := &tls.Config{RootCAs: pool}
	if name != "" {
		dir := a.t.TempDir()
		a.issue(name, dir+"/cert", dir+"/key", time.Now().Add(time.Hour))
		pair, err := tls.LoadX509KeyPair(dir+"/cert", dir+"/key")
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	c := &http.Client{Timeout: testTimeout, Transport: &http.Transport{TLSClientConfig: config}}
	a.t.Cleanup(c.CloseIdleConnections)
	return c
}

// newToken makes a token with the command token new.
func newToken(t *testing.T, args ...string) (token, line string) {
	t.Helper()
	out, err := command(t, append([]string{"token", "new"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	token, line, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return token, line
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// postAs posts a usage and returns the status, or 0 for a connection that failed.
func postAs(t *testing.T, client *http.Client, url, token string) int {
	t.Helper()
	status, err := tryPostAs(t, client, url, token)
	if err != nil {
		return 0
	}
	return status
}

// tryPostAs is postAs that returns the error of a post without an answer.
func tryPostAs(t *testing.T, client *http.Client, url, token string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// A token of token new works once its line is in the tokens file, and its name is stored
// with the usages.
func TestANewTokenIsAcceptedAndNamesItsClient(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token, line := newToken(t, "ward-3")
	limited, limitedLine := newToken(t, "ward-4", "--rate", "1")
	var fromJSON struct{ Name, Token, Line string }
	out, err := command(t, "token", "new", "ward-5", "--rate", "5", "--json").Output()
	if err := errors.Join(err, json.Unmarshal(out, &fromJSON)); err != nil || fromJSON.Name != "ward-5" || !strings.HasPrefix(fromJSON.Line, "ward-5 sha256:") || !strings.HasSuffix(fromJSON.Line, " rate=5") {
		t.Fatalf("%v: %s", err, out)
	}
	write(t, dir+"/tokens", "# clients\n"+line+"\n"+limitedLine+"\n"+fromJSON.Line+"\n")
	config, port, admin := configure(t, dir, "wal: {seal_after: 100ms}\n")
	replaceInFile(t, config, "http: {", "http: {tokens_file: "+dir+"/tokens, ")
	d := start(t, config, port, admin)
	for _, c := range []struct {
		token string
		want  int
	}{{token, 201}, {"", 401}, {token[:45] + "_", 401}, {line, 401}, {limited, 201}, {token, 201}, {fromJSON.Token, 201}} {
		if got := postAs(t, http.DefaultClient, d.url(), c.token); got != c.want {
			t.Errorf("%d, want %d", got, c.want)
		}
	}
	ward4 := 1 // usages of the token with a rate; on a busy machine one request may take a second
	until(t, "the rate is reached", func() bool {
		got := postAs(t, http.DefaultClient, d.url(), limited)
		if got == http.StatusCreated {
			ward4++
		}
		return got == http.StatusTooManyRequests
	})
	m := d.metrics()
	if m[`collectord_usages_rejected_total{reason="unauthorized",source="http"}`] != 3 || m[`collectord_http_requests_total{status="401"}`] != 3 || !math.IsInf(m["collectord_tls_certificate_expiry_timestamp_seconds"], 1) {
		t.Errorf("unauthorized: %v", m[`collectord_usages_rejected_total{reason="unauthorized",source="http"}`])
	}
	until(t, "all is shipped", func() bool { return d.metrics()["collectord_usages_shipped_total"] == float64(3+ward4) })
	d.stop()
	shipped, err := command(t, "cat", "--config", config).Output()
	if err != nil || bytes.Count(shipped, []byte(`"client":"ward-3"`)) != 2 || bytes.Count(shipped, []byte(`"client":"ward-4"`)) != ward4 || bytes.Count(shipped, []byte(`"client":"ward-5"`)) != 1 {
		t.Errorf("%v: %s", err, shipped)
	}
	if n := strings.Count(d.log(), "trouble=unauthorized"); n != 2 { // one for the first refusal, and one at the end for the others
		t.Errorf("%d lines on three refusals: %s", n, d.log())
	}
	for _, args := range [][]string{{"token", "new"}, {"token", "new", "a b"}, {"token", "new", "a", "--rate", "-1"}, {"token", "new", "a", "b"}} {
		out, err := command(t, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitError || strings.Contains(string(out), "cd_") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}

// Clients of all kinds post without a pause while tokens, certificates and authorities are
// changed and reloaded. No client gets an error.
func TestReloadingAccessFilesDropsNoRequest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			dir := t.TempDir()
			ca := newAuthority(t, dir)
			token, line := newToken(t, "steady")
			write(t, dir+"/tokens", line+"\n")
			until1 := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
			ca.issue("collector", dir+"/cert", dir+"/key", until1)
			config, port, admin := configure(t, dir, "")
			scheme := "http"
			more := "http: {tokens_file: " + dir + "/tokens, "
			if secure {
				scheme = "https"
				more += "tls: {cert: " + dir + "/cert, key: " + dir + "/key, client_ca: " + ca.path + "}, "
			}
			replaceInFile(t, config, "http: {", more)
			d := start(t, config, port, admin)
			url := fmt.Sprintf("%s://127.0.0.1:%d/api/usages", scheme, port)
			stop := make(chan struct{})
			var posted atomic.Int64
			var wg sync.WaitGroup
			for c := range 6 {
				client := ca.client("edge-7")
				client.Transport.(*http.Transport).DisableKeepAlives = c == 0
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if got := postAs(t, client, url, token); got != http.StatusCreated {
							t.Errorf("answered %d", got)
							return
						}
						posted.Add(1)
					}
				})
			}
			reloads := 20 / testrun.OneIn(4)
			for i := range reloads {
				at := posted.Load()
				until(t, "clients are served", func() bool { return posted.Load() > at+10 || t.Failed() })
				_, other := newToken(t, fmt.Sprintf("other-%d", i))
				write(t, dir+"/tokens.new", other+"\n"+line+fmt.Sprintf(" rate=%d\n", 1000000+i))
				if err := os.Rename(dir+"/tokens.new", dir+"/tokens"); err != nil {
					t.Fatal(err)
				}
				expires := until1.Add(time.Duration(i+1) * time.Hour)
				ca.issue("collector", dir+"/cert", dir+"/key", expires)
				if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				until(t, "the daemon has reloaded", func() bool { return strings.Count(d.log(), "tokens and certificates were read again") == i+1 })
				if got := d.metrics()["collectord_tls_certificate_expiry_timestamp_seconds"]; secure && got != float64(expires.Unix()) {
					t.Errorf("the certificate expires at %v, want %v", got, expires.Unix())
				}
			}
			close(stop)
			wg.Wait()
			m := d.metrics()
			if m[`collectord_usages_rejected_total{reason="unauthorized",source="http"}`] != 0 || m[acceptedHTTP] != float64(posted.Load()) || m["collectord_config_last_reload_successful"] != 1 {
				t.Errorf("%v accepted of %d", m[acceptedHTTP], posted.Load())
			}
			if secure { // new connections get the newest certificate
				c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), ca.client("edge-7").Transport.(*http.Transport).TLSClientConfig)
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				if at := c.ConnectionState().PeerCertificates[0].NotAfter; !at.Equal(until1.Add(time.Duration(reloads) * time.Hour)) {
					t.Errorf("the server's certificate expires at %v", at)
				}
			}
			t.Logf("%d requests, %d reloads", posted.Load(), reloads)
			d.stop()
		})
	}
}

// A reload with a broken file changes nothing: neither the other files nor the limits take
// effect. After the repair a reload takes effect, also on open connections.
func TestABrokenAccessFileChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	a, lineA := newToken(t, "a")
	b, lineB := newToken(t, "b")
	write(t, dir+"/tokens", lineA+"\n")
	first := time.Now().Add(1000 * time.Hour).Truncate(time.Second)
	ca.issue("collector", dir+"/cert", dir+"/key", first)
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {max_connections: 7, tokens_file: %s/tokens, tls: {cert: %[1]s/cert, key: %[1]s/key}, ", dir))
	d := start(t, config, port, admin)
	url := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	open := ca.client("")
	expect := func(when string, wantA, wantB int, expires time.Time) {
		t.Helper()
		if gotA, gotB := postAs(t, open, url, a), postAs(t, open, url, b); gotA != wantA || gotB != wantB {
			t.Errorf("%s: %d and %d, want %d and %d", when, gotA, gotB, wantA, wantB)
		}
		if got := d.metrics()["collectord_tls_certificate_expiry_timestamp_seconds"]; got != float64(expires.Unix()) {
			t.Errorf("%s: the certificate expires at %v", when, got)
		}
	}
	reloads := 0
	reload := func(ok bool, logged string) {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		reloads++
		until(t, "the daemon has reloaded", func() bool {
			return strings.Count(d.log(), "reloaded the configuration")+strings.Count(d.log(), "nothing was changed") == reloads
		})
		if got := d.metrics()["collectord_config_last_reload_successful"] == 1; got != ok {
			t.Errorf("the metric reports a successful reload: %v", got)
		}
		if !strings.Contains(d.log(), logged) {
			t.Errorf("not logged: %s", logged)
		}
	}
	expect("at first", 201, 401, first)

	second := first.Add(time.Hour)
	ca.issue("collector", dir+"/cert", dir+"/key", second)
	write(t, dir+"/tokens", lineB+"\nb oops\n"+lineB+" rate=7\n")
	replaceInFile(t, config, "max_connections: 7", "max_connections: 8")
	reload(false, dir+"/tokens line 2")
	if !strings.Contains(d.log(), "tokens line 3): has the name of line 1") {
		t.Error("not all mistakes are logged at once")
	}
	expect("after a broken tokens file", 201, 401, first)

	write(t, dir+"/tokens", lineB+"\n")
	key, err := os.ReadFile(dir + "/key")
	if err != nil {
		t.Fatal(err)
	}
	ca.issue("collector", dir+"/other", dir+"/key", second) // the key of another certificate
	reload(false, "http.tls.key ("+dir+"/key)")
	expect("after another key", 201, 401, first)

	write(t, dir+"/key", string(key))
	reload(true, "http.max_connections: 7 -> 8")
	if !strings.Contains(d.log(), "tokens_added=1 tokens_removed=1") {
		t.Error("the change is not logged")
	}
	expect("after the repair", 401, 201, second)

	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(48*time.Hour))
	if err := os.Chmod(dir+"/tokens", 0o644); err != nil {
		t.Fatal(err)
	}
	reload(true, "/tokens can be read or changed by everyone on this host (mode 0644)")
	if !strings.Contains(d.log(), ", in 1 days") {
		t.Error("no warning of a certificate that expires soon")
	}
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(-48*time.Hour))
	reload(true, " expired on ")
	checkNotLogged(t, d, a, b)
	d.stop()
}

func TestARemovedTokenIsRefusedOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token, line := newToken(t, "a")
	_, other := newToken(t, "b")
	write(t, dir+"/tokens", line+"\n"+other+"\n")
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", "http: {tokens_file: "+dir+"/tokens, ")
	d := start(t, config, port, admin)
	var dials atomic.Int32
	client := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return net.Dial(network, addr)
	}}}
	defer client.CloseIdleConnections()
	if got := postAs(t, client, d.url(), token); got != 201 {
		t.Fatal(got)
	}
	write(t, dir+"/tokens", other+"\n")
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.untilLogged("tokens_removed=1")
	if got := postAs(t, client, d.url(), token); got != 401 || dials.Load() != 1 {
		t.Errorf("%d, over connection %d", got, dials.Load())
	}
	d.stop()
}

// A server that other hosts can reach starts only with access control. It accepts only
// authenticated clients.
func TestOnlyTheLocalHostIsAllowedByDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {listen: '127.0.0.1:", "http: {listen: '0.0.0.0:")
	out, err := command(t, "run", "--config", config).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitBadConfig || !strings.Contains(string(out), "http.tokens_file or http.tls.client_ca") || !strings.Contains(string(out), fmt.Sprintf("0.0.0.0:%d", port)) {
		t.Errorf("%v: %s", err, out)
	}
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {tls: {cert: %s/cert, key: %[1]s/key, client_ca: %s}, ", dir, ca.path))
	d := start(t, config, port, admin)
	url := fmt.Sprintf("https://127.0.0.1:%d/api/usages", port)
	stranger := newAuthority(t, t.TempDir())
	for name, c := range map[string]struct {
		client *http.Client
		want   int
	}{
		"a client of our authority": {ca.client("edge-7"), 201}, "a client without a certificate": {ca.client(""), 0}, "a client that does not trust our authority": {stranger.client("edge-7"), 0},
	} {
		if got := postAs(t, c.client, url, ""); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	const uncertified = `collectord_tls_handshake_failures_total{reason="client_certificate"}`
	until(t, "the client without a certificate is counted", func() bool { return d.metrics()[uncertified] > 0 }) // the client may get its error earlier
	if m := d.metrics(); m[uncertified] != 1 || m[acceptedHTTP] != 1 {
		t.Errorf("%v without a certificate, %v accepted", m[uncertified], m[acceptedHTTP])
	}
	d.stop()
}

// config check and a start check all files that the configuration names, and report all
// mistakes at once.
func TestAccessFilesAreCheckedWithTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	token, line := newToken(t, "a")
	write(t, dir+"/tokens", line+"\n"+token+"\nb sha256:12\n")
	write(t, dir+"/cert", "no certificate")
	config, _, _ := configure(t, dir, "")
	replaceInFile(t, config, "http: {", fmt.Sprintf("http: {tokens_file: %s/tokens, tls: {cert: %[1]s/cert, key: %[1]s/key, client_ca: %[1]s/ca}, ", dir))
	for command1, status := range map[string]int{"config check": exitNotRight, "run": exitBadConfig} {
		out, err := command(t, append(strings.Fields(command1), "--config", config)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != status || !strings.Contains(string(out), "the configuration has 5 mistakes") || strings.Contains(string(out), token) {
			t.Errorf("%s: %v: %s", command1, err, out)
		}
		for _, want := range []string{
			"http.tokens_file (" + dir + "/tokens line 2): contains a token", "/tokens line 3)", "http.tls.cert (" + dir + "/cert): contains no certificate",
			"http.tls.key (" + dir + "/key): no such file", "http.tls.client_ca (" + dir + "/ca): no such file",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not print: %s", command1, want)
			}
		}
	}
	write(t, dir+"/tokens", "# nobody yet\n")
	config, _, _ = configure(t, dir, "")
	replaceInFile(t, config, "http: {listen: '127.0.0.1:", "http: {tokens_file: "+dir+"/tokens, listen: '0.0.0.0:")
	out, err := command(t, "config", "check", "--config", config).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "has no token: no client may send") || !strings.Contains(string(out), "accepts tokens that can be read on the network") {
		t.Errorf("%v: %s", err, out)
	}
}

// systemd copies credentials of LoadCredential= into a separate directory.
func TestSecretsMayBeCredentials(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	token, line := newToken(t, "a")
	write(t, dir+"/tokens", line)
	ca.issue("collector", dir+"/cert", dir+"/key", time.Now().Add(1000*time.Hour))
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	config, port, admin := configure(t, dir, "")
	replaceInFile(t, config, "http: {", "http: {tokens_file: tokens, tls: {cert: "+dir+"/cert, key: key}, ")
	d := start(t, config, port, admin)
	if got := postAs(t, ca.client(""), fmt.Sprintf("https://127.0.0.1:%d/api/usages", port), token); got != 201 {
		t.Error(got)
	}
	d.stop()
}
