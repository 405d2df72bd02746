package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"collectord/collectord/testrun"
	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// brokenResponses returns broken responses for one object. Each function writes to the
// connection. The response ends when the function returns.
func brokenResponses() map[string]func(c net.Conn, object []byte) {
	const (
		ok   = "HTTP/1.1 200 OK\r\nX-Amz-Request-Id: 1\r\nETag: \"1\"\r\nLast-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\n"
		page = "<!DOCTYPE html><html><body>Log in.</body></html>"
	)
	all := map[string]func(c net.Conn, object []byte){
		"a huge header": func(c net.Conn, _ []byte) {
			fmt.Fprintf(c, "%sX-Amz-Meta-More: %s\r\n\r\n", ok, strings.Repeat("x", 200_000))
		},
		"an endless header": func(c net.Conn, _ []byte) {
			_, err := io.WriteString(c, ok)
			for err == nil {
				_, err = io.WriteString(c, "X-Amz-Meta-More: x\r\n")
			}
		},
		"early hints without end": func(c net.Conn, _ []byte) {
			var err error
			for err == nil {
				_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n")
			}
		},
		"no response":          func(net.Conn, []byte) {},
		"a stalled response":   func(c net.Conn, _ []byte) { _, _ = io.Copy(io.Discard, c) },
		"a header that stalls": func(c net.Conn, _ []byte) { _, _ = io.WriteString(c, ok); _, _ = io.Copy(io.Discard, c) },
		"another protocol":     func(c net.Conn, _ []byte) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n") },
		"a redirect to itself": func(c net.Conn, _ []byte) {
			_, _ = io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: ?\r\nContent-Length: 0\r\n\r\n")
		},
		"no Last-Modified": func(c net.Conn, o []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nLast-Modified: never\r\nContent-Length: %d\r\n\r\n%s", len(o), o)
		},
		"a page": func(c net.Conn, _ []byte) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
		},
		"an invalid length": func(c net.Conn, o []byte) { fmt.Fprintf(c, "%sContent-Length: x\r\n\r\n%s", ok, o) },
		"two lengths": func(c net.Conn, o []byte) {
			fmt.Fprintf(c, "%sContent-Length: %d\r\nContent-Length: 1\r\n\r\n%s", ok, len(o), o)
		},
		"an unknown transfer encoding": func(c net.Conn, o []byte) { fmt.Fprintf(c, "%sTransfer-Encoding: zstd\r\n\r\n%s", ok, o) },
	}
	statuses := []int{400, 401, 403, 404, 405, 409, 410, 412, 416, 429, 451, 500, 501, 503, 599}
	for i := 0; i < len(statuses); i += testrun.OneIn(3) {
		status := statuses[i]
		all[fmt.Sprint("status ", status)] = func(c net.Conn, _ []byte) {
			const body = "<Error><Code>Broken</Code></Error>"
			fmt.Fprintf(c, "HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		}
	}
	return all
}

// brokenBodies returns responses with a correct header. Only reading the body fails.
func brokenBodies() map[string]func(c net.Conn, object []byte) {
	const ok = "HTTP/1.1 200 OK\r\nX-Amz-Request-Id: 1\r\nETag: \"1\"\r\nLast-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\n"
	return map[string]func(c net.Conn, object []byte){
		"a length that is too large": func(c net.Conn, o []byte) { fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", ok, len(o)+9, o) },
		"a length that is too small": func(c net.Conn, o []byte) { fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", ok, len(o)-9, o) },
		"a length of zero":           func(c net.Conn, o []byte) { fmt.Fprintf(c, "%sContent-Length: 0\r\n\r\n%s", ok, o) },
		"a bad chunk": func(c net.Conn, o []byte) {
			fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%sxyz\r\n", ok, len(o), o)
		},
		"no last chunk": func(c net.Conn, o []byte) {
			fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", ok, len(o)-9, o[:len(o)-9])
		},
		"a body that stalls": func(c net.Conn, o []byte) {
			fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", ok, len(o), o[:len(o)/2])
			_, _ = io.Copy(io.Discard, c)
		},
		"another encoding": func(c net.Conn, _ []byte) {
			const packed = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			fmt.Fprintf(c, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", ok, len(packed), packed)
		},
	}
}

// brokenBucket is a storage in a synctest bubble. Node n has a log that precedes the log of node
// m. An object of the log of m was deleted. There are also a renamed copy, a loss note and a
// heartbeat.
type brokenBucket struct {
	testBucket
	fake                             *s3test.Pipe
	object, foreign, note, heartbeat string // keys
}

func newBrokenBucket(t *testing.T) *brokenBucket {
	t.Helper()
	f := s3test.NewPipe()
	t.Cleanup(f.Close)
	b := &brokenBucket{fake: f, testBucket: testBucket{t: t, metadata: true, store: openStore(t, bucket.Destination{URL: "s3://" + s3test.Bucket, S3: bucket.S3Options{
		Endpoint: f.URL, Region: "us-east-1", PathStyle: "on", CredentialsFile: s3test.KeysFile(t, s3test.User, s3test.Secret, ""), Dial: f.Dial,
	}})}}
	put := func(node string, log, seq uint64, name string) string {
		line, err := new(bucket.LineEncoder).Append(nil, &bucket.Record{ID: bucket.ID{6: 0x70, 15: byte(seq)}, Via: "http", Usage: fmt.Appendf(nil, `{"n":"%s"}`, node)})
		if err != nil {
			t.Fatal(err)
		}
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(line)
		k := bucket.Key{Node: node, LogID: log, Run: 1, FirstSeq: seq, LastSeq: seq, Hour: bucket.HourOf(time.Now())}
		if name == "" {
			name = k.String()
		}
		b.put(name, enc.EncodeAll(line, nil), bucket.Metadata{
			Format: bucket.Format, Node: node, LogID: bucket.HexID(log), Run: bucket.HexID(1), FirstSeq: seq, LastSeq: seq,
			Records: 1, RawBytes: int64(len(line)), SHA256: hex.EncodeToString(sum[:]), ConfirmedBelow: seq,
		})
		return name
	}
	put("n", 7, 1, "")
	b.object = put("n", 7, 3, "")
	put("m", 9, 1, "")
	put("m", 9, 3, "")
	b.foreign = put("m", 9, 4, "dt=2000-01-01/hour=00/copy.ndjson.zst")
	k := bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: 4, LastSeq: 4}
	note, err := bucket.NewLossNote(k, "evicted", time.Now(), true)
	if err == nil {
		err = b.store.Put(t.Context(), note)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.putHeartbeat("n", 7, bucket.Heartbeat{LastSeq: 3, ConfirmedBelow: 2, At: time.Now()})
	b.note, b.heartbeat = k.LossKey(), k.HeartbeatKey()
	return b
}

// breakResponse replaces the response for one object.
func (b *brokenBucket) breakResponse(key string, respond func(c net.Conn, object []byte)) {
	content := b.fake.Objects()[key].Body
	b.fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, key) || r.URL.RawQuery != "" {
			return false
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			b.t.Error(err)
			return true
		}
		defer c.Close()
		if r.Method == http.MethodHead {
			c = &headOnly{Conn: c}
		}
		respond(c, content)
		return true
	}})
}

// headOnly is a connection that drops the body of a response, since a HEAD has none.
type headOnly struct {
	net.Conn
	headerSent bool
}

func (c *headOnly) Write(p []byte) (int, error) {
	head, _, whole := bytes.Cut(p, []byte("\r\n\r\n"))
	if c.headerSent {
		return len(p), nil
	}
	if !whole || bytes.HasPrefix(p, []byte("HTTP/1.1 1")) { // an interim response
		return c.Conn.Write(p)
	}
	c.headerSent = true
	if _, err := fmt.Fprintf(c.Conn, "%s\r\n\r\n", head); err != nil {
		return 0, err
	}
	return len(p), nil
}

// kindOfKey returns the kind of the finding that names the key; empty if there is none.
func kindOfKey(r *Report, key string) Kind {
	for _, f := range r.Findings {
		if f.Kind != Lost && slices.Contains(f.Keys, key) {
			return f.Kind
		}
	}
	return ""
}

// TestOneBrokenAnswerDoesNotEndAnAudit breaks each response that an audit needs, in each
// way.
func TestOneBrokenAnswerDoesNotEndAnAudit(t *testing.T) {
	for name, respond := range brokenResponses() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBrokenBucket(t)
				for _, key := range []string{b.object, b.foreign, b.note, b.heartbeat} {
					b.breakResponse(key, respond)
					r, err := Run(t.Context(), b.store, Options{Now: time.Now()})
					if err != nil {
						t.Fatalf("the audit ended at %s: %v", key, err)
					}
					if r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Node: "m"}); err != nil || (kindOfKey(r, key) == Unreadable) != (key == b.foreign) {
						t.Errorf("%s, for another node: %v, %+v", key, err, r)
					}
					if kindOfKey(r, key) != Unreadable || !r.Wrong() || r.Tallies[Unreadable].Findings != 1 || r.Tallies[Missing].Findings == 0 || r.Objects != 5 {
						t.Errorf("%s: %+v", key, r.Findings)
					}
				}
			})
		})
	}
}

// TestOneBrokenAnswerDoesNotEndReading checks a deep audit and Records.
func TestOneBrokenAnswerDoesNotEndReading(t *testing.T) {
	all := brokenBodies()
	for name, respond := range brokenResponses() {
		all[name] = respond
	}
	for name, respond := range all {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBrokenBucket(t)
				b.breakResponse(b.object, respond)
				r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Deep: true})
				if err != nil {
					t.Fatalf("the audit ended: %v", err)
				}
				if kind := kindOfKey(r, b.object); kind != Unreadable && kind != Damaged && kind != Truncated || r.Tallies[kind].Findings != 1 || r.Tallies[Missing].Findings == 0 || r.Read != 5 {
					t.Errorf("%+v", r.Findings)
				}
				lines := 0
				err = Selection{}.Records(t.Context(), b.store, func(int) {}, func(some []byte) error { lines += bytes.Count(some, []byte("\n")); return nil })
				var damaged *DamagedError
				if !errors.As(err, &damaged) || damaged.Objects != 1 || !strings.Contains(err.Error(), b.object) || lines < 4 {
					t.Errorf("got %d lines: %v", lines, err)
				}
			})
		})
	}
}

// TestAnUnreadableCopyBelongsToTheNodeInItsMetadata: its name does not matter.
func TestAnUnreadableCopyBelongsToTheNodeInItsMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBrokenBucket(t)
		m := http.Header{}
		for name, values := range b.fake.Objects()[b.foreign].Header {
			if strings.HasPrefix(name, "X-Amz-Meta-") {
				m[name] = values
			}
		}
		b.breakResponse(b.foreign, func(c net.Conn, o []byte) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nLast-Modified: Mon, 23 Nov 2026 08:00:00 GMT\r\n")
			_ = m.Write(c)
			_, _ = fmt.Fprintf(c, "Content-Length: %d\r\n\r\n%s", len(o)+9, o)
		})
		r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Deep: true, Node: "m"})
		if err != nil || r.Tallies[Unreadable] != (Tally{1, 1}) || kindOfKey(r, b.foreign) != Unreadable {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

// TestAStorageThatFailsEndsTheReading: failures of all objects, or also of the listing, are
// the storage's.
func TestAStorageThatFailsEndsTheReading(t *testing.T) {
	for name, fails := range map[string]func(r *http.Request) bool{
		"the listing fails, too": func(r *http.Request) bool {
			return r.URL.Query().Get("prefix") != "" && strings.HasSuffix(r.URL.Query().Get("prefix"), bucket.Suffix) || strings.HasSuffix(r.URL.Path, bucket.Suffix)
		},
		"only listings work": func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, bucket.Suffix) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBrokenBucket(t)
				for i := range uint64(maxConsecutiveFailures) {
					b.testBucket.putObject("n", 7, 1, 4+i, 4+i, time.Now())
				}
				b.fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
					if !fails(r) {
						return false
					}
					return s3test.Error(w, http.StatusServiceUnavailable, "SlowDown")
				}})
				if r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Deep: true, Workers: 1}); err == nil {
					t.Errorf("the audit did not fail: %+v", r)
				}
				err := Selection{}.Records(t.Context(), b.store, func(int) {}, func([]byte) error { return nil })
				var failed *bucket.Error
				if !errors.As(err, &failed) || failed.Kind != "SlowDown" {
					t.Errorf("Records returned %v", err)
				}
			})
		})
	}
}

// strangeStore also lists an object whose key S3 does not allow.
type strangeStore struct {
	bucket.Store
	key string
}

func (s strangeStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range s.Store.List(ctx, prefix) {
			if !yield(key, err) {
				return
			}
		}
		if strings.HasPrefix(s.key, prefix) {
			yield(s.key, nil)
		}
	}
}

// TestAStrangeKeyDoesNotEndReading: neither the library nor the storage accepts it.
func TestAStrangeKeyDoesNotEndReading(t *testing.T) {
	_, b := newFake(t)
	b.putObject("n", 7, 1, 1, 1, time.Now())
	for name, key := range map[string]string{
		"not UTF-8": "dt=2000-01-01/hour=00/\xff\xfe" + bucket.Suffix,
		"too long":  "dt=2000-01-01/hour=00/" + strings.Repeat("ü", 1000) + bucket.Suffix,
	} {
		store := strangeStore{b.store, key}
		if r, err := Run(t.Context(), store, Options{Now: time.Now(), Deep: true}); err != nil || kindOfKey(r, key) != Unreadable || r.Read != 1 {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
		err := Selection{}.Records(t.Context(), store, func(int) {}, func([]byte) error { return nil })
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.Objects < 1 {
			t.Errorf("%s: Records returned %v", name, err)
		}
	}
}
