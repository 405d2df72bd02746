package bucket

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// fragileBody is a body that does not allow two concurrent closes, as the library's body does
// not.
type fragileBody struct {
	io.Reader
	closing, overlaps atomic.Int32
}

func (f *fragileBody) Close() error {
	if f.closing.Add(1) > 1 {
		f.overlaps.Add(1)
	}
	for range 100 {
		runtime.Gosched()
	}
	f.closing.Add(-1)
	return nil
}

// TestABodyWhoseAnswerRedirectsIsNotClosedTwiceAtATime: a storage may redirect before it
// has read the body.
func TestABodyWhoseAnswerRedirectsIsNotClosedTwiceAtATime(t *testing.T) {
	const errorBody = "<Error><Code>PermanentRedirect</Code></Error>"
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMovedPermanently)
		_, _ = io.WriteString(w, errorBody)
	}))
	defer storage.Close()
	rt, err := newS3Transport("", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: rt}
	for n := range 100 {
		body := &fragileBody{Reader: strings.NewReader(strings.Repeat("x", n<<12))}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, storage.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(n << 12)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(answer) != errorBody || resp.StatusCode != http.StatusMovedPermanently {
			t.Fatalf("%s %q: %v", resp.Status, answer, err)
		}
		if body.overlaps.Load() > 0 {
			t.Fatalf("body %d was closed twice concurrently", n)
		}
	}
}
