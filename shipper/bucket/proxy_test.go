package bucket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

// TestHintNamesAProxyThatChangesHost has a proxy in front of real storages. The signature covers
// the header Host.
func TestHintNamesAProxyThatChangesHost(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) string{"MinIO": s3test.MinIO, "versitygw": s3test.Versity} {
		to, err := url.Parse(start(t))
		if err != nil {
			t.Fatal(err)
		}
		proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}) // this also sets Host
		t.Cleanup(proxy.Close)
		s := testS3(t, proxy.URL, s3test.MakeBucket(t, to.String(), false), "")
		var e *Error
		if err := s.Put(t.Context(), testObject("a", "x")); !errors.As(err, &e) || e.Kind != "SignatureDoesNotMatch" || !strings.Contains(e.Hint, "a proxy before the storage changes Host") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHintNamesTheProxyInUse runs itself in a child process with the proxy's variables: a process
// reads them only once.
func TestHintNamesTheProxyInUse(t *testing.T) {
	const variable = "COLLECTORD_TEST_PROXIED"
	if endpoint := os.Getenv(variable); endpoint != "" {
		fmt.Println(testS3(t, endpoint, s3test.Bucket, "").Put(t.Context(), testObject("a", "x")))
		return
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(map[bool]int{true: http.StatusProxyAuthRequired, false: http.StatusBadGateway}[r.Method == http.MethodConnect])
		io.WriteString(w, "<html><body>not from here</body></html>")
	}))
	t.Cleanup(refusing.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unusedAddr := ln.Addr().String()
	ln.Close()
	refusingAddr := strings.TrimPrefix(refusing.URL, "http://")
	for name, c := range map[string]struct {
		set, endpoint string
		want          []string
	}{
		"http, refused":        {"HTTP_PROXY=http://user:hunter2@" + unusedAddr, "http://s3.example:9000", []string{"reached by the proxy " + unusedAddr + " (HTTP_PROXY)", "NO_PROXY"}},
		"https, refused":       {"HTTPS_PROXY=http://user:hunter2@" + unusedAddr, "https://s3.example", []string{"reached by the proxy " + unusedAddr + " (HTTPS_PROXY)", "NO_PROXY"}},
		"https, 407":           {"https_proxy=http://user:hunter2@" + refusingAddr, "https://s3.example", []string{"reached by the proxy " + refusingAddr + " (HTTPS_PROXY)", "407 Proxy Authentication Required"}},
		"http, its page":       {"http_proxy=http://user:hunter2@" + refusingAddr, "http://s3.example:9000", []string{"reached by the proxy " + refusingAddr + " (HTTP_PROXY)", "not from here"}},
		"no such name":         {"HTTP_PROXY=http://proxy.invalid:1", "http://s3.example:9000", []string{"reached by the proxy proxy.invalid:1 (HTTP_PROXY)"}},
		"excluded by NO_PROXY": {"HTTP_PROXY=http://user:hunter2@" + refusingAddr + "\nNO_PROXY=127.0.0.1", "http://127.0.0.1:1", []string{"nothing listens at 127.0.0.1:1"}},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHintNamesTheProxyInUse$", "-test.v")
		for _, v := range os.Environ() {
			if name, _, _ := strings.Cut(v, "="); !strings.Contains(strings.ToUpper(name), "_PROXY") {
				cmd.Env = append(cmd.Env, v)
			}
		}
		cmd.Env = append(append(cmd.Env, variable+"="+c.endpoint), strings.Split(c.set, "\n")...)
		out, err := cmd.CombinedOutput()
		for _, want := range c.want {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		if strings.Contains(string(out), "hunter2") {
			t.Errorf("%s: the error contains the password: %s", name, out)
		}
	}
}
