package shipper

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// TestAnObjectWithoutAnAnswerIsReadBack: the storage loses power after the last byte of an
// object, before it answers. Afterwards it has key, size and metadata, but other bytes. The
// object is read at once even if the segment is kept: if the log needs the room, the look
// never happens.
func TestAnObjectWithoutAnAnswerIsReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		damaged, restarts, readForbidden bool
		gets, puts                       int64
		wantLog                          string
		keeps                            bool
	}{
		"intact":                            {false, false, false, 1, 0, "", false},
		"damaged":                           {true, false, false, 2, 1, "replaced it", false}, // a difference is checked by a second read
		"intact, after a restart":           {false, true, false, 1, 0, "", false},
		"damaged, after a restart":          {true, true, false, 2, 1, "replaced it", false},
		"reading is denied":                 {true, false, true, 1, 0, "its size and metadata are trusted", false},
		"reading is denied after a restart": {true, true, true, 1, 0, "its size and metadata are trusted", false},
		"kept, intact":                      {false, false, false, 1, 0, "", true},
		"kept, damaged":                     {true, false, false, 2, 1, "replaced it", true},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTest(t, func(t *testing.T, k *keeperTest) {
				keep, kept := time.Duration(0), 0
				if c.keeps {
					keep, kept = testKeep, 1
				}
				k.shipper.SetLimits(Limits{Keep: keep})
				isObject := func(key string) bool { return strings.Contains(key, "/dt=") }
				k.behave(s3test.Behaviour{Stored: isObject})
				if err := k.log.Append(t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
					t.Fatal(err)
				}
				if err := k.log.Seal(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				was := k.fake.Objects()
				for key, o := range was {
					if c.damaged && isObject(key) {
						k.fake.Corrupt(key, make([]byte, len(o.Body)))
					}
				}
				k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
					return c.readForbidden && r.Method == http.MethodGet && isObject(r.URL.Path) && s3test.Error(w, http.StatusForbidden, "InvalidObjectState")
				}})
				k.lookCount()
				before := k.fake.Puts()
				if c.restarts {
					k.stop()
					k.keepFor = 0
					k.start()
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				k.checkCounts(0, kept, 0, 0)
				if gets := k.requestCount(http.MethodGet); gets != c.gets {
					t.Errorf("the object was read %d times, want %d", gets, c.gets)
				}
				for key, o := range k.fake.Objects() {
					if !isObject(key) {
						continue
					}
					if puts := k.fake.Puts()[key] - before[key]; int64(puts) != c.puts {
						t.Errorf("the object was put again %d times, want %d", puts, c.puts)
					}
					if intact := string(o.Body) == string(was[key].Body); intact == c.readForbidden {
						t.Errorf("the object is intact: %v", intact)
					}
				}
				if c.wantLog != "" {
					k.checkLogged(c.wantLog, 1)
				}
			})
		})
	}
}

// TestReadingBackObeysTheBandwidth reads 1 MiB at 16 KiB a second.
func TestReadingBackObeysTheBandwidth(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.shipper.SetLimits(Limits{})
		k.behave(s3test.Behaviour{Stored: func(key string) bool { return strings.Contains(key, "/dt=") }})
		if err := k.log.Append(t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
			t.Fatal(err)
		}
		if err := k.log.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		k.behave(s3test.Behaviour{})
		k.shipper.SetLimits(Limits{Bandwidth: 16 << 10})
		began := time.Now()
		for k.log.Ledger().Pending > 0 && time.Since(began) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); k.requestCount(http.MethodGet) != 1 || took < 30*time.Second || took > 10*time.Minute {
			t.Errorf("reading took %v", took)
		}
	})
}
