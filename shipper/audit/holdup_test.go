package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
)

// writeSlowly calls write each second for three hours, or until it fails.
func writeSlowly(write func() error) {
	for range 10_000 {
		if write() != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// TestUnreadableObjectsDelayReadingOnlyBriefly: a gateway that has lost the blocks of files
// still lists them. It then does not respond, or very slowly, or with an error. Each such
// object is reported and delays one reader for less than a minute, even if there are many
// in a row.
func TestUnreadableObjectsDelayReadingOnlyBriefly(t *testing.T) {
	const workers, good, bad = 4, 5, 2 * maxConsecutiveFailures
	hang := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	for name, respond := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"no response": hang,
		"500": func(w http.ResponseWriter, _ *http.Request) bool {
			return s3test.Error(w, http.StatusInternalServerError, "InternalError")
		},
		"a part, then nothing": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "\x28\xb5\x2f\xfd")
			_ = http.NewResponseController(w).Flush()
			return hang(w, r)
		},
		"a body that trickles": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", "10000")
			_, _ = io.WriteString(w, "\x50\x2a\x4d\x18\x00\x27\x00\x00") // a skippable frame
			writeSlowly(func() error {
				_, err := io.WriteString(w, "x")
				return errors.Join(err, http.NewResponseController(w).Flush())
			})
			return true
		},
		"a body that trickles with 500 bytes a second": func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			w.Header().Set("Content-Length", "8000000")
			_, _ = io.WriteString(w, "\x50\x2a\x4d\x18\xf8\x11\x7a\x00")
			writeSlowly(func() error {
				_, err := w.Write(make([]byte, 500))
				return errors.Join(err, http.NewResponseController(w).Flush())
			})
			return true
		},
		"a header that trickles": func(w http.ResponseWriter, _ *http.Request) bool {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				defer c.Close()
				_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-More: ")
			}
			if err == nil {
				writeSlowly(func() error { _, err := io.WriteString(c, "x"); return err })
			}
			return true
		},
	} {
		for _, first := range []bool{true, false} { // whether the readable objects come first
			t.Run(fmt.Sprint(name, ", the good first: ", first), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					defer time.Sleep(2 * time.Second) // until the storage notices the closed connections
					b := newBrokenBucket(t)
					lost := map[string]bool{}
					for i := range uint64(good + bad) {
						k := bucket.Key{Node: "x", LogID: 0x70, Run: 1, FirstSeq: i + 1, LastSeq: i + 1, Hour: bucket.HourOf(time.Now())}
						b.copyObject(b.object, k.String())
						if first && i >= good || !first && i < bad {
							lost[k.String()] = true
						}
					}
					b.fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
						return r.Method == http.MethodGet && lost[strings.TrimPrefix(r.URL.Path, "/"+s3test.Bucket+"/")] && respond(w, r)
					}})
					began := time.Now()
					r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Node: "x", Deep: true, Workers: workers})
					if err != nil {
						t.Fatalf("the audit ended: %v", err)
					}
					if r.Tallies[Unreadable].Findings != bad || r.Read != good+bad {
						t.Errorf("%d objects are unreadable, %d were read: %+v", r.Tallies[Unreadable].Findings, r.Read, r.Tallies)
					}
					for key := range lost {
						if kindOfKey(r, key) != Unreadable {
							t.Errorf("%s is reported as %s", key, kindOfKey(r, key))
						}
					}
					if took := time.Since(began); took > bad/workers*time.Minute {
						t.Errorf("the audit took %v", took)
					}
					lines := 0
					began = time.Now()
					err = Selection{Node: "x"}.Records(t.Context(), b.store, func(int) {}, func(some []byte) error { lines += bytes.Count(some, []byte("\n")); return nil })
					var damaged *DamagedError
					if first && (!errors.As(err, &damaged) || damaged.Objects != bad || lines < good) {
						t.Errorf("got %d lines: %v", lines, err)
					}
					if took := time.Since(began); took > bad*90*time.Second {
						t.Errorf("Records took %v", took)
					}
				})
			})
		}
	}
}

// TestAnObjectThatTricklesDelaysAReaderBriefly: others arrive meanwhile, or it starts well.
func TestAnObjectThatTricklesDelaysAReaderBriefly(t *testing.T) {
	const workers, seconds, rate = 4, 600, 16_000
	for name, c := range map[string]struct {
		good, bad int
		start     int // bytes that a bad object sends at once
	}{
		"beside others":  {good: 60, bad: 12},
		"it starts well": {bad: 1, start: 200_000},
		"both":           {good: 60, bad: 12, start: 200_000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Second) // until the storage notices the closed connections
				b := newBrokenBucket(t)
				trickles := map[string]bool{}
				for i := range c.good + c.bad {
					k := bucket.Key{Node: "x", LogID: 0x70, Run: 1, FirstSeq: uint64(i) + 1, LastSeq: uint64(i) + 1, Hour: bucket.HourOf(time.Now())}
					b.copyObject(b.object, k.String())
					trickles[k.String()] = i%((c.good+c.bad)/c.bad) == 0
				}
				b.fake.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
					bad, listed := trickles[strings.TrimPrefix(r.URL.Path, "/"+s3test.Bucket+"/")]
					if r.Method != http.MethodGet || !listed {
						return false
					}
					w.Header().Set("ETag", `"1"`)
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
					w.Header().Set("Content-Length", strconv.Itoa(8+seconds*rate))
					frame := binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), seconds*rate) // a skippable frame
					piece := make([]byte, rate)
					if bad {
						frame, piece = append(frame, make([]byte, c.start)...), piece[:1]
					}
					_, err := w.Write(frame)
					for n := 0; n < seconds*rate && err == nil; n += len(piece) {
						_, err = w.Write(piece)
						err = errors.Join(err, http.NewResponseController(w).Flush())
						time.Sleep(time.Second)
					}
					return true
				}})
				began := time.Now()
				r, err := Run(t.Context(), b.store, Options{Now: time.Now(), Node: "x", Deep: true, Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				atMost := time.Duration(c.good)*seconds*time.Second/workers + time.Duration(c.bad)*3*time.Minute/min(workers, time.Duration(c.bad))
				if c.good > 0 {
					atMost += seconds * time.Second // the last object may begin when the other readers have ended
				}
				if took := time.Since(began); took > atMost || r.Tallies[Unreadable].Findings != c.bad {
					t.Errorf("the audit took %v, %d objects are unreadable: %+v", took, r.Tallies[Unreadable].Findings, r.Tallies)
				}
			})
		})
	}
}
