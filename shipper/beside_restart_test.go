package shipper

import (
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket"
	"collectord/wal"
)

// plain held something else, ours went beside, the operator deletes the plain one as told, restart within keep
func TestWhatWasStoredBesideIsFoundAfterARestart(t *testing.T) {
	inKeeping(t, func(t *testing.T, k *keeping) {
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
		k.expect(0, 1, 0, 0)
		t.Log(len(k.fake.Objects()))
		k.stop()
		k.fake.Put("data/"+key, nil)
		k.start()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		for key, o := range k.fake.Objects() {
			t.Log(key, len(o.Body))
		}
		n := 0
		for key := range k.fake.Objects() {
			if _, ok := bucket.ParseKey(key[len("data/"):]); ok {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d objects of one segment", n)
		}
	})
}
