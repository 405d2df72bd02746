package shipper

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

const testKeep = 5 * time.Minute

// keeperTest is a log, a storage and a shipper that keeps shipped segments, in a synctest
// bubble.
type keeperTest struct {
	t       *testing.T
	fake    *s3test.Pipe
	store   bucket.Store
	dir     string
	keepFor time.Duration // in effect after the next start
	size    int64         // of segments; in effect after the next start
	log     *wal.Log
	shipper *Shipper
	logged  logBuffer
	stop    func() // stops the shipper and closes the log
	usages  int
	counts  map[string]*atomic.Int64 // requests for data objects, by method
}

func newKeeperTest(t *testing.T, b s3test.Behaviour) *keeperTest {
	t.Helper()
	k := &keeperTest{t: t, fake: s3test.NewPipe(), dir: t.TempDir(), keepFor: testKeep, size: segmentSize, counts: map[string]*atomic.Int64{}}
	for _, method := range []string{http.MethodPut, http.MethodHead, http.MethodGet} {
		k.counts[method] = &atomic.Int64{}
	}
	k.store = testS3(t, k.fake.URL, s3test.Bucket+"/data", func(o *bucket.S3Options) {
		o.Dial, o.Logger = k.fake.Dial, slog.New(slog.DiscardHandler)
	})
	k.behave(b)
	k.start()
	return k
}

// behave sets the behaviour of the storage, and counts requests.
func (k *keeperTest) behave(b s3test.Behaviour) {
	k.fake.Behave(s3test.Behaviour{Each: func(r *http.Request) s3test.Behaviour {
		if strings.Contains(r.URL.Path, "/dt=") {
			k.counts[r.Method].Add(1)
		}
		return b
	}})
}

// requestCount returns the number of requests since the last call.
func (k *keeperTest) requestCount(method string) int64 { return k.counts[method].Swap(0) }

// lookCount returns the number of looks since the last call.
func (k *keeperTest) lookCount() int64 {
	return k.requestCount(http.MethodHead) + k.requestCount(http.MethodGet)
}

func (k *keeperTest) start() {
	k.t.Helper()
	var err error
	if k.log, err = wal.Open(k.dir, wal.Options{Node: "edge-1", SegmentSize: k.size, BoundsInterval: rareBounds, Logger: k.logged.logger()}); err != nil {
		k.t.Fatal(err)
	}
	k.shipper, err = New(k.log, k.store, Options{
		SpoolDir: filepath.Join(k.dir, "spool"), Logger: k.logged.logger(), Limits: Limits{Keep: k.keepFor},
	})
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); k.shipper.Run(ctx) }()
	k.stop = func() {
		cancel()
		<-ended
		if err := k.log.Close(); err != nil {
			k.t.Error(err)
		}
	}
	synctest.Wait() // the result of the probe must not depend on timing
}

// close stops everything, so that the bubble can end.
func (k *keeperTest) close() {
	k.stop()
	k.fake.Close()
}

// shipEach appends usages, ships each in its own object, and returns the keys.
func (k *keeperTest) shipEach(usages ...[]byte) (keys []string) {
	k.t.Helper()
	before := k.fake.Objects()
	for _, u := range usages {
		if err := k.log.Append(k.t.Context(), wal.Record{Usage: u}); err != nil {
			k.t.Fatal(err)
		}
		if err := k.log.Seal(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
	}
	synctest.Wait()
	for key := range k.fake.Objects() {
		if _, ok := before[key]; !ok && strings.Contains(key, "/dt=") {
			keys = append(keys, key)
		}
	}
	if len(keys) != len(usages) {
		k.t.Fatalf("%d objects for %d usages; %s", len(keys), len(usages), k.logged.text())
	}
	slices.Sort(keys)
	return keys
}

func (k *keeperTest) smallUsages(n int) (usages [][]byte) {
	for range n {
		k.usages++
		usages = append(usages, fmt.Appendf(nil, `{"n":%d}`, k.usages))
	}
	return usages
}

// largeUsage returns a usage whose object is so large that a look reads only its metadata, unless
// the storage failed.
func largeUsage() []byte {
	noise := make([]byte, 2*smallObject)
	rand.NewChaCha8([32]byte{}).Read(noise)
	return fmt.Appendf(nil, `{"n":1,"x":"%x"}`, noise)
}

// checkCounts compares the counters.
func (k *keeperTest) checkCounts(pending, kept int, reshipped, vanished uint64) {
	k.t.Helper()
	stats, s := k.log.Stats(), k.shipper.Stats()
	if stats.SealedSegments != pending || stats.KeptSegments != kept || s.Reshipped != reshipped || s.Vanished != vanished {
		k.t.Errorf("%d segments are pending, %d kept, %d shipped again, %d vanished; want %d, %d, %d, %d; %s",
			stats.SealedSegments, stats.KeptSegments, s.Reshipped, s.Vanished, pending, kept, reshipped, vanished, k.logged.text())
	}
}

// ageByOneDay makes the kept objects a day older, since a bubble takes seconds to pass a
// day.
func (k *keeperTest) ageByOneDay() {
	k.t.Helper()
	keeper := k.shipper.keeper
	keeper.mu.Lock()
	defer keeper.mu.Unlock()
	for _, one := range keeper.waiting {
		one.confirmed = one.confirmed.Add(-reshipLimit)
	}
	if !keeper.failingSince.IsZero() {
		keeper.failingSince = keeper.failingSince.Add(-reshipLimit)
	}
}

// checkLogged checks how often a text was logged.
func (k *keeperTest) checkLogged(text string, times int) {
	k.t.Helper()
	if n := strings.Count(k.logged.text(), text); n != times {
		k.t.Errorf("%q was logged %d times, want %d: %s", text, n, times, k.logged.text())
	}
}

// checkObjects checks that the storage has these objects, unchanged.
func (k *keeperTest) checkObjects(want map[string]s3test.Object) {
	k.t.Helper()
	for key, o := range k.fake.Objects() {
		if object, ok := want[key]; ok && !bytes.Equal(object.Body, o.Body) {
			k.t.Errorf("%s has changed", key)
		}
		delete(want, key)
	}
	for key := range want {
		k.t.Errorf("%s is missing", key)
	}
}

// runKeeperTest runs a test in a bubble, with a storage that supports everything.
func runKeeperTest(t *testing.T, test func(t *testing.T, k *keeperTest)) {
	t.Helper()
	runKeeperTestOn(t, s3test.Behaviour{}, test)
}

// runKeeperTestOn runs a test in a bubble, with a storage that has this behaviour.
func runKeeperTestOn(t *testing.T, b s3test.Behaviour, test func(t *testing.T, k *keeperTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := newKeeperTest(t, b)
		defer k.close()
		test(t, k)
	})
}

func TestASegmentIsKeptUntilALookFindsItsObject(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.shipEach(k.smallUsages(3)...)
		if g := k.log.Ledger(); g.Shipped != 3 || g.Pending != 0 {
			t.Errorf("ledger %+v", g)
		}
		k.lookCount()
		time.Sleep(testKeep - time.Second)
		synctest.Wait()
		k.checkCounts(0, 3, 0, 0)
		if n := k.lookCount(); n > 0 {
			t.Errorf("got %d looks before they are due, want 0", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		if n := k.lookCount(); n != 3 {
			t.Errorf("got %d looks at 3 objects, want 3", n)
		}
		if puts := k.fake.Puts(); len(puts) != 4 { // three objects and the probe
			t.Errorf("puts %v", puts)
		}
		k.checkLogged("WARN", 0)
	})
}

func TestLostOrDamagedObjectsAreShippedAgain(t *testing.T) {
	for name, lose := range map[string]func(k *keeperTest, key string){
		"gone":             func(k *keeperTest, key string) { k.fake.Put(key, nil) },
		"emptied":          func(k *keeperTest, key string) { k.fake.Put(key, []byte{}) },
		"cut":              func(k *keeperTest, key string) { k.fake.Put(key, k.fake.Objects()[key].Body[:20]) },
		"zeros":            func(k *keeperTest, key string) { k.fake.Put(key, make([]byte, len(k.fake.Objects()[key].Body))) },
		"one byte changed": func(k *keeperTest, key string) { b := k.fake.Objects()[key].Body; k.fake.Put(key, slices.Concat(b, b)) },
		"one other": func(k *keeperTest, key string) {
			b := bytes.Clone(k.fake.Objects()[key].Body)
			b[len(b)-1]++
			k.fake.Put(key, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTest(t, func(t *testing.T, k *keeperTest) {
				keys := k.shipEach(k.smallUsages(3)...)
				was := k.fake.Objects()
				lose(k, keys[1])
				time.Sleep(testKeep)
				synctest.Wait()
				k.checkCounts(0, 1, 1, 0)
				k.checkObjects(was)
				if g := k.log.Ledger(); g.Shipped != 4 || g.Recovered != 1 || g.Pending != 0 {
					t.Errorf("ledger %+v", g)
				}
				k.checkLogged("the segment is shipped again", 1)
				time.Sleep(testKeep)
				synctest.Wait()
				k.checkCounts(0, 0, 1, 0)
				k.checkLogged("the storage has what it confirmed", 1)
				if st := k.shipper.Stats(); st.Conflicts != 0 || len(k.fake.Puts()) != 4 {
					t.Errorf("stats %+v, puts %v", st, k.fake.Puts())
				}
			})
		})
	}
}

// TestAnObjectThatIsLostTwiceCountsAsVanished has a consumer that deletes objects.
func TestAnObjectThatIsLostTwiceCountsAsVanished(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		keys := k.shipEach(k.smallUsages(2)...)
		for range 3 {
			k.fake.Put(keys[0], nil)
			time.Sleep(testKeep)
			synctest.Wait()
		}
		k.checkCounts(0, 0, 1, 1)
		k.checkLogged("has vanished", 1)
		k.checkLogged("records=1", 1)
		k.checkLogged(strings.TrimPrefix(keys[0], "data/"), 2)
		if n := k.fake.Puts()[keys[0]]; n != 2 {
			t.Errorf("the object was put %d times, want 2", n)
		}
		if h, _, err := k.shipper.heartbeat(false); err != nil || h.Vanished != 1 {
			t.Errorf("heartbeat: %+v, %v", h, err)
		}
	})
}

func TestAfterADayNothingIsShippedAgain(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		keys := k.shipEach(k.smallUsages(2)...)
		k.fake.Put(keys[0], nil) // like a lifecycle rule of the bucket
		k.ageByOneDay()
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 1)
		k.checkLogged("it was confirmed more than a day ago", 1)
	})
}

// TestObjectsLostInAnOutageAreShippedAgain: the time of an outage does not count towards
// reshipLimit.
func TestObjectsLostInAnOutageAreShippedAgain(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		for outage := range uint64(2) {
			keys := k.shipEach(k.smallUsages(6)...)
			was := k.fake.Objects()
			k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Abort(w) }})
			time.Sleep(2 * testKeep)
			k.ageByOneDay()
			k.behave(s3test.Behaviour{})
			for _, key := range keys[:3] {
				k.fake.Put(key, nil)
			}
			time.Sleep(3 * testKeep)
			synctest.Wait()
			k.checkCounts(0, 0, 3*(outage+1), 0)
			k.checkObjects(was)
		}
	})
}

func TestWithoutReadPermissionSegmentsAreRemovedUnchecked(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		keys := k.shipEach(k.smallUsages(3)...)
		k.fake.Put(keys[0], nil)
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			return s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}})
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		k.checkLogged("removed unchecked", 3) // package main aggregates these lines
		k.checkLogged("trouble="+`"last look"`, 3)
	})
}

// TestAFailedHeartbeatCountsAsAnOutage: a heartbeat is often the only request between a
// confirmation and the look.
func TestAFailedHeartbeatCountsAsAnOutage(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		k.shipper.SetLimits(Limits{Keep: testKeep, Heartbeat: time.Minute})
		keys := k.shipEach(largeUsage())
		was := k.fake.Objects()
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Abort(w) }})
		time.Sleep(2 * time.Minute)
		k.fake.Corrupt(keys[0], make([]byte, len(was[keys[0]].Body)))
		k.behave(s3test.Behaviour{})
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 1, 1, 0)
		if string(k.fake.Objects()[keys[0]].Body) != string(was[keys[0]].Body) {
			k.t.Error("the lost object was not shipped again")
		}
	})
}

// TestLooksResumeWhenReadPermissionIsGranted: no segment is kept while the permission is missing.
func TestLooksResumeWhenReadPermissionIsGranted(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		k.shipEach(k.smallUsages(1)...)
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodPut && s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}})
		time.Sleep(testKeep)
		synctest.Wait()
		k.shipEach(k.smallUsages(1)...)
		k.checkCounts(0, 0, 0, 0) // keeping the segment would be useless
		k.behave(s3test.Behaviour{})
		time.Sleep(forbiddenFor)
		k.shipEach(k.smallUsages(1)...)
		k.checkCounts(0, 1, 0, 0)
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		k.checkLogged("the storage has what it confirmed", 1)
	})
}

// TestAnObjectWithoutAnAnswerIsReadByTheLook: the storage loses power after the last byte
// of a large object, before it answers. Afterwards the storage has other bytes than it returned
// before.
func TestAnObjectWithoutAnAnswerIsReadByTheLook(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		k.behave(s3test.Behaviour{Stored: func(key string) bool { return strings.Contains(key, "/dt=") }})
		if err := k.log.Append(k.t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
			k.t.Fatal(err)
		}
		if err := k.log.Seal(k.t.Context()); err != nil {
			k.t.Fatal(err)
		}
		synctest.Wait()
		was := k.fake.Objects()
		k.behave(s3test.Behaviour{})
		time.Sleep(time.Minute)
		synctest.Wait()
		k.checkCounts(0, 1, 0, 0)
		for key, o := range was {
			if strings.Contains(key, "/dt=") {
				k.fake.Corrupt(key, make([]byte, len(o.Body)))
			}
		}
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 1, 1, 0)
		k.checkObjects(was)
	})
}

func TestALargeObjectIsReadOnlyAfterAnOutage(t *testing.T) {
	refuse := func(status int) func(k *keeperTest) {
		return func(k *keeperTest) {
			k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
				if status == 0 {
					return s3test.Abort(w)
				}
				return s3test.Error(w, status, "Whatever")
			}})
			if err := k.log.Append(k.t.Context(), wal.Record{Usage: []byte(`{}`)}); err != nil {
				k.t.Fatal(err)
			}
			if err := k.log.Seal(k.t.Context()); err != nil {
				k.t.Fatal(err)
			}
			synctest.Wait()
			k.behave(s3test.Behaviour{})
		}
	}
	for name, c := range map[string]struct {
		happens func(k *keeperTest)
		read    int64
	}{
		"nothing":        {func(*keeperTest) {}, 0},
		"an error of S3": {refuse(http.StatusNotFound), 0},
		"500":            {refuse(http.StatusInternalServerError), 1},
		"503":            {refuse(http.StatusServiceUnavailable), 1},
		"a reset":        {refuse(0), 1},
		"another object is missing": {func(k *keeperTest) {
			time.Sleep(time.Second)
			k.fake.Put(k.shipEach(k.smallUsages(1)...)[0], nil)
			time.Sleep(testKeep / 2)
			k.shipper.SetLimits(Limits{Keep: time.Second}) // both looks are due at once
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTest(t, func(t *testing.T, k *keeperTest) {
				keys := k.shipEach(largeUsage())
				if n := int64(len(k.fake.Objects()[keys[0]].Body)); n <= smallObject {
					t.Fatalf("the object has only %d bytes", n)
				}
				c.happens(k)
				var read atomic.Int64
				b := s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, keys[0]) {
						read.Add(1)
					}
					return false
				}}
				k.behave(b)
				time.Sleep(2 * testKeep)
				synctest.Wait()
				if read.Load() != c.read || k.log.Stats().KeptSegments > 1 {
					t.Errorf("the object was read %d times, want %d; %s", read.Load(), c.read, k.logged.text())
				}
			})
		})
	}
}

// TestDamageThatMetadataHidesIsFoundByReading: a power failure destroys the bytes of a
// large object, but not its size and metadata.
func TestDamageThatMetadataHidesIsFoundByReading(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		keys := k.shipEach(largeUsage())
		was := k.fake.Objects()
		k.fake.Corrupt(keys[0], make([]byte, len(was[keys[0]].Body)))
		k.shipper.keeper.recordOutage()
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 1, 1, 0)
		k.checkObjects(was)
		k.checkLogged("replaced it", 1)
		time.Sleep(2 * testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 1, 0)
	})
}

func TestLooksReadWithinTheBandwidth(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		const rate = 20 << 10
		keys := k.shipEach(largeUsage())
		k.shipper.keeper.recordOutage()
		k.shipper.SetLimits(Limits{Keep: testKeep, Bandwidth: rate})
		time.Sleep(testKeep + time.Duration(len(k.fake.Objects()[keys[0]].Body))*time.Second/rate - time.Second)
		synctest.Wait()
		k.checkCounts(0, 1, 0, 0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
	})
}

// TestADamagedCopyThatCantBeReplacedIsReported has storages without conditional
// replacement.
func TestADamagedCopyThatCantBeReplacedIsReported(t *testing.T) {
	for name, b := range map[string]s3test.Behaviour{
		"refused":   {Conditions: s3test.Refuse},
		"misjudged": {Conditions: s3test.RefuseAsInvalid},
		"denied": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("If-Match") != "" && s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}},
		"replaced meanwhile": {Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("If-Match") != "" && s3test.Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			runKeeperTestOn(t, b, func(t *testing.T, k *keeperTest) {
				keys := k.shipEach(k.smallUsages(1)...)
				body := k.fake.Objects()[keys[0]].Body
				k.fake.Put(keys[0], body[:len(body)/2])
				time.Sleep(testKeep)
				synctest.Wait()
				k.checkCounts(0, 1, 1, 0)
				k.checkLogged("stored beside it (look at the copy, and delete it)", 1)
				st := k.shipper.Stats()
				if st.Conflicts != 0 || st.Failures[kindDamaged] != 1 {
					t.Errorf("stats %+v", st)
				}
				time.Sleep(testKeep) // the last look is at the object beside
				synctest.Wait()
				k.checkCounts(0, 0, 1, 0)
				objects := k.fake.Objects()
				beside := slices.DeleteFunc(slices.Collect(maps.Keys(objects)), func(key string) bool { return !strings.Contains(key, "~") })
				if len(beside) != 1 || !bytes.Equal(objects[beside[0]].Body, body) || len(objects[keys[0]].Body) != len(body)/2 {
					t.Errorf("stored beside the damaged object are %v, want one intact object", beside)
				}
			})
		})
	}
}

// TestOnlyTheDamagedVersionIsReplaced checks the condition of the replacing put.
func TestOnlyTheDamagedVersionIsReplaced(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		keys := k.shipEach(k.smallUsages(1)...)
		k.fake.Put(keys[0], []byte("damaged"))
		var conditions []string
		k.behave(s3test.Behaviour{Fault: func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPut {
				conditions = append(conditions, r.Header.Get("If-Match")+r.Header.Get("If-None-Match"))
			}
			return false
		}})
		time.Sleep(testKeep)
		synctest.Wait()
		if want := []string{`"f7ce8aa0ce16862be4a2bbf8e8c64d0f"`}; len(conditions) != 1 || len(conditions[0]) != len(want[0]) {
			t.Errorf("conditions %q", conditions)
		}
	})
}

func TestASegmentIsKeptWhileTheStorageIsAway(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		keys := k.shipEach(k.smallUsages(20)...)
		was := k.fake.Objects()
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Abort(w) }})
		time.Sleep(time.Hour)
		synctest.Wait()
		k.checkCounts(0, 20, 0, 0)
		if n := k.shipper.Stats().Failures["network"]; n < 20 || n > 200 {
			t.Errorf("got %d failures in an hour", n)
		}
		for _, key := range keys[:10] {
			k.fake.Put(key, nil)
		}
		k.behave(s3test.Behaviour{})
		time.Sleep(2 * testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 10, 0)
		k.checkObjects(was)
		lastOf := map[string]string{} // trouble -> level
		for line := range strings.Lines(k.logged.text()) {
			if _, after, ok := strings.Cut(line, "trouble="); ok {
				lastOf[strings.Trim(strings.SplitAfter(after, `"`)[min(1, strings.Count(after, `"`))], `"`)] = line
			}
		}
		for trouble, line := range lastOf {
			if !strings.Contains(line, "level=INFO") {
				t.Errorf("the end of trouble %s was not logged: %s", trouble, line)
			}
		}
	})
}

// TestAfterARestartNothingIsPutTwice restarts the daemon with kept segments. The storage
// has lost one of their objects.
func TestAfterARestartNothingIsPutTwice(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		keys := k.shipEach(append(k.smallUsages(2), largeUsage())...)
		was := k.fake.Objects()
		k.stop()
		k.fake.Put(keys[0], nil)
		k.requestCount(http.MethodPut)
		k.requestCount(http.MethodGet)
		k.start()
		synctest.Wait()
		k.checkCounts(0, 3, 0, 0)
		if puts := k.requestCount(http.MethodPut); puts != 1 {
			t.Errorf("%d objects were put after the restart, want 1", puts)
		}
		k.checkObjects(maps.Clone(was))
		// A storage that lost power together with the daemon may have only size and metadata.
		k.fake.Corrupt(keys[2], make([]byte, len(was[keys[2]].Body)))
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 1, 1, 0)
		k.checkObjects(was)
	})
}

// TestABacklogShippedAfterARestartIsNotReadBack: without an outage, reading would only
// double the traffic of a backlog.
func TestABacklogShippedAfterARestartIsNotReadBack(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.stop()
		l, err := wal.Open(k.dir, wal.Options{Node: "edge-1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append(t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		k.start()
		synctest.Wait()
		k.checkCounts(0, 1, 0, 0)
		k.lookCount()
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		if heads, gets := k.requestCount(http.MethodHead), k.requestCount(http.MethodGet); heads > int64(testKeep/watchInterval)+1 || gets != 0 {
			t.Errorf("got %d HEAD and %d GET requests", heads, gets)
		}
	})
}

func TestWithoutKeepASegmentIsRemovedAtOnce(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.shipEach(k.smallUsages(2)...)
		k.checkCounts(0, 2, 0, 0)
		k.shipper.SetLimits(Limits{})
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		k.lookCount()
		k.shipEach(k.smallUsages(2)...)
		k.checkCounts(0, 0, 0, 0)
		time.Sleep(time.Hour)
		if n := k.lookCount(); n > 0 {
			t.Errorf("got %d looks, want 0", n)
		}
	})
}

// TestEarlyRemovedSegmentsDoNotEndTheBackoff removes every other kept segment while
// the storage fails.
func TestEarlyRemovedSegmentsDoNotEndTheBackoff(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.shipEach(k.smallUsages(60)...)
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool { return s3test.Abort(w) }})
		time.Sleep(testKeep + 10*time.Minute) // until the delay has its maximum
		synctest.Wait()
		k.shipper.keeper.mu.Lock()
		for i, one := range k.shipper.keeper.waiting {
			if i%2 == 0 {
				_ = one.segment.Remove()
			}
		}
		k.shipper.keeper.mu.Unlock()
		k.lookCount()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// The mean of a random delay is half its maximum, and net/http repeats a request if
		// the connection was closed.
		if n, expected := k.lookCount(), int64(10*time.Minute/(time.Minute/2)); n > 3*expected {
			t.Errorf("got %d looks in ten minutes, expected about %d", n, expected)
		}
		k.behave(s3test.Behaviour{})
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
	})
}

// TestRemovedSegmentsAreNotLookedAt: the log needs the room and removes kept segments.
func TestRemovedSegmentsAreNotLookedAt(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.shipEach(k.smallUsages(4)...)
		k.lookCount()
		k.log.SetLimits(wal.Limits{MaxBytes: 1})
		time.Sleep(testKeep)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		if n := k.lookCount(); n > 0 {
			t.Errorf("got %d looks, want 0", n)
		}
		if remaining := len(k.shipper.keeper.waiting); remaining > 0 {
			t.Errorf("%d objects still wait for a look", remaining)
		}
	})
}
