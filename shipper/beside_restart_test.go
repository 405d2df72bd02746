package shipper

import (
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// TestObjectStoredBesideIsFoundAfterARestart deletes the object under the plain key, as the
// log line advises, and restarts within shipper.keep.
func TestObjectStoredBesideIsFoundAfterARestart(t *testing.T) {
	runKeeperTest(t, func(t *testing.T, k *keeperTest) {
		k.stop()
		l, err := wal.Open(k.dir, wal.Options{Node: "edge-1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Append(t.Context(), wal.Record{Usage: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		if err := l.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		key := keyOfSealed(t, l, 0)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		k.fake.Put("data/"+key, []byte("damaged"))
		k.start()
		synctest.Wait()
		k.checkCounts(0, 1, 0, 0)
		k.stop()
		k.fake.Put("data/"+key, nil)
		k.start()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		n := 0
		for key := range k.fake.Objects() {
			if _, ok := bucket.ParseKey(key[len("data/"):]); ok {
				n++
			}
		}
		if n != 1 {
			t.Errorf("got %d objects for one segment, want 1", n)
		}
	})
}
