package shipper

import (
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
	"collectord/wal"
)

// TestARelistedSegmentThatIsTooLargeIsSplit checks also that each record is stored once.
func TestARelistedSegmentThatIsTooLargeIsSplit(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.stop()
		k.size = 4 << 20 // both records are in one segment
		k.start()
		for range 2 {
			k.appendLarge(t)
		}
		if err := k.log.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var key string
		for o := range k.fake.Objects() {
			if kk := o[len("data/"):]; kk[:3] == "dt=" {
				key = o
			}
		}
		k.fake.Put(key, nil)
		k.behave(s3test.Behaviour{Fault: s3test.Refusals()["nginx"].Above(s3test.Limit(800 << 10))})
		time.Sleep(time.Hour)
		synctest.Wait()
		k.checkCounts(0, 0, 0, 0)
		if n := len(storedLines(t, k.store)); n != 2 {
			t.Errorf("got %d records, want 2", n)
		}
	})
}

func (k *keeperTest) appendLarge(t *testing.T) {
	if err := k.log.Append(t.Context(), wal.Record{Usage: largeUsage()}); err != nil {
		t.Fatal(err)
	}
}
