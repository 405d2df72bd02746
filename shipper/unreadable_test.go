package shipper

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
)

// unreadableUntil makes reads of already existing data objects fail, and answers all other
// requests. With a ReadLie, the body is damaged instead.
func unreadableUntil(until time.Time, b s3test.Behaviour, read s3test.ReadLie) s3test.Behaviour {
	var mu sync.Mutex // guards put
	var put []string
	return s3test.Behaviour{Each: func(r *http.Request) s3test.Behaviour {
		mu.Lock()
		defer mu.Unlock()
		b := b
		switch {
		case !strings.Contains(r.URL.Path, "/dt="):
		case r.Method == http.MethodPut:
			put = append(put, r.URL.Path)
		case r.Method == http.MethodGet && time.Now().Before(until) && !slices.Contains(put, r.URL.Path):
			if b.Read = read; read == s3test.ReadTruth {
				b.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
					return s3test.Error(w, http.StatusInternalServerError, "InternalError")
				}
			}
		}
		return b
	}}
}

// TestUnreadableObjectsAreShippedAgain: after a power failure, SeaweedFS and rclone still
// list objects that they can't return.
func TestUnreadableObjectsAreShippedAgain(t *testing.T) {
	const segments = 3
	ever := time.Now().Add(100 * 365 * 24 * time.Hour)
	for name, c := range map[string]struct {
		b      s3test.Behaviour
		read   s3test.ReadLie
		beside bool
	}{
		"500":                      {},
		"the body is truncated":    {read: s3test.BreaksOff},
		"no If-Match":              {b: s3test.Behaviour{Conditions: s3test.Refuse}, beside: true},
		"no If-Match, no metadata": {b: s3test.Behaviour{Conditions: s3test.Refuse, NoMetadata: true}, read: s3test.BreaksOff, beside: true},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", after a restart"}[restart], func(t *testing.T) {
				runKeeperTestOn(t, c.b, func(t *testing.T, k *keeperTest) {
					keys := k.shipEach(k.smallUsages(segments)...)
					was := k.fake.Objects()
					k.fake.Behave(unreadableUntil(ever, c.b, c.read))
					if restart {
						k.stop()
						k.start()
					}
					reshipped, first := uint64(segments), testKeep
					if restart && c.b.NoMetadata { // an existing object is read before it is shipped
						reshipped, first = 0, 0
					}
					time.Sleep(first + unreadableFor - time.Second)
					synctest.Wait()
					if s := k.shipper.Stats(); s.Failures[kindDamaged] > 0 {
						t.Errorf("before %v have passed: %+v", unreadableFor, s)
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					k.checkCounts(0, 0, reshipped, 0)
					if s := k.shipper.Stats(); s.Failures[kindDamaged] != segments || s.Conflicts > 0 {
						t.Errorf("stats %+v", s)
					}
					for key, n := range k.fake.Puts() {
						if strings.Contains(key, "/dt=") && n != map[bool]int{true: 1, false: 2}[c.beside] {
							t.Errorf("%s was put %d times", key, n)
						}
					}
					objects := k.fake.Objects()
					for _, key := range keys {
						if c.beside {
							delete(objects, key)
						}
					}
					n := 0
					for key, o := range objects {
						name, _, _ := strings.Cut(strings.TrimSuffix(key, ".ndjson.zst"), "~")
						if strings.Contains(key, "/dt=") && bytes.Equal(o.Body, was[name+".ndjson.zst"].Body) {
							n++
						}
					}
					if n != segments {
						t.Errorf("%d of %d objects are intact", n, segments)
					}
				})
			})
		}
	}
}

// TestBrieflyUnreadableObjectsAreNotShippedAgain has a storage that just started and does
// not have all its disks yet.
func TestBrieflyUnreadableObjectsAreNotShippedAgain(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		const segments = 20
		k.shipEach(k.smallUsages(segments)...)
		was := k.fake.Objects()
		k.fake.Behave(unreadableUntil(time.Now().Add(testKeep+unreadableFor-time.Second), s3test.Behaviour{}, s3test.ReadTruth))
		time.Sleep(testKeep + unreadableFor - time.Second)
		synctest.Wait()
		k.checkCounts(0, segments, 0, 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		k.checkObjects(was)
	})
}

// TestADamagedObjectIsShippedAgainUntilItIsIntact: after a power failure, Garage skips a put of
// bytes that it seems to have.
func TestADamagedObjectIsShippedAgainUntilItIsIntact(t *testing.T) {
	for name, c := range map[string]struct {
		damages             int
		reshipped, vanished uint64
	}{
		"the third time": {2, 2, 0},
		"never":          {1e6, maxReshipsDamaged, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
				puts := 0
				k.fake.Behave(s3test.Behaviour{Stored: func(key string) bool {
					if strings.Contains(key, "/dt=") {
						if puts++; puts <= c.damages {
							time.AfterFunc(time.Second, func() { k.fake.Corrupt(key, make([]byte, 10)) })
						}
					}
					return false
				}})
				k.shipEach(k.smallUsages(1)...)
				time.Sleep(10 * testKeep)
				synctest.Wait()
				k.checkCounts(0, 0, c.reshipped, c.vanished)
			})
		})
	}
}

// TestAPowerFailureIsDetectedWhileNothingIsShipped makes the storage unavailable for as
// long as a machine takes to restart. Afterwards the storage has the size and metadata of a large
// object, but not its bytes.
func TestAPowerFailureIsDetectedWhileNothingIsShipped(t *testing.T) {
	for name, away := range map[string]s3test.Behaviour{
		"refused": {Fault: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }},
		"silent": {Fault: func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-r.Context().Done():
			case <-time.After(2 * watchInterval):
			}
			return false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
				keys := k.shipEach(largeUsage())
				was := k.fake.Objects()
				k.fake.Corrupt(keys[0], make([]byte, len(was[keys[0]].Body)))
				time.Sleep(time.Minute)
				k.behave(away)
				time.Sleep(2 * watchInterval)
				k.behave(s3test.Behaviour{})
				time.Sleep(testKeep)
				synctest.Wait()
				k.checkCounts(0, 1, 1, 0)
				k.checkObjects(was)
			})
		})
	}
}
