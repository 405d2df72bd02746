package shipper

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

func TestKeptObjectBesideAnotherIsFoundAfterARestart(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.stop()
		l, err := wal.Open(k.dir, wal.Options{Node: "edge-1"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Append(t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		key := keyOfSealed(t, l, 0)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		k.fake.Put("data/"+key, compressLines(t, "{}\n"))
		k.start()
		synctest.Wait()
		k.checkCounts(0, 1, 0, 0)
		k.stop()
		limit := s3test.Limit(100 << 10)
		k.behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Above(limit)})
		k.start()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
	})
}

func TestPutOnlyKeysShipEverything(t *testing.T) {
	runKeeperTest(t, func(_ *testing.T, k *keeperTest) {
		k.behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodPut && strings.Contains(r.URL.Path, "/dt=") && s3test.Error(w, http.StatusForbidden, "AccessDenied")
		}})
		k.shipEach(k.smallUsages(3)...)
		time.Sleep(testKeep + time.Second)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		k.shipEach(k.smallUsages(3)...)
		k.stop()
		k.start()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
	})
}

func TestTroubleEndsWhenItsSegmentIsEvicted(t *testing.T) {
	f, store := newFake(t)
	l := openLog(t, t.TempDir())
	fill(t, l, 30, 10)
	segments, _ := l.Sealed()
	o := compressCopy(t, segments[2])
	f.Put("data/"+o.Key, []byte("something else"))
	f.Put("data/"+o.Beside().Key, compressLines(t, "{}\n"))
	s := startWith(t, l, store, Options{Limits: Limits{RetryMin: time.Millisecond, RetryMax: time.Millisecond, RetryMaxPermanent: time.Millisecond}})
	until(t, "a trouble is reported", func() bool { return len(s.troubles(l.Stats(), nil)) > 0 })
	l.SetLimits(wal.Limits{WhenFull: wal.DropOldest, MaxBytes: 1 << 20, MinFree: 1 << 62})
	until(t, "10 records are evicted", func() bool { return l.Ledger().Evicted == 10 })
	l.SetLimits(wal.Limits{WhenFull: wal.DropOldest})
	until(t, "the loss notes are stored", func() bool { return l.Stats().LossNotes == 0 })
	until(t, "the log has room", func() bool { return l.Full() == nil })
	if err := l.Append(context.Background(), wal.Record{Usage: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	_ = l.Seal(context.Background())
	until(t, "all other records are shipped", func() bool { return l.Ledger().Pending == 0 })
	until(t, "no trouble is reported", func() bool { return len(s.troubles(l.Stats(), nil)) == 0 })
}
