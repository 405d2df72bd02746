package shipper

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"collectord/shipper/bucket/s3test"
)

// TestObjectCorruptedInTransitIsReadAgain lets a proxy corrupt the answer to one read: once
// in a look, and once after a restart of the daemon. The stored object is intact, so it is
// neither replaced nor stored a second time.
func TestObjectCorruptedInTransitIsReadAgain(t *testing.T) {
	for name, conditions := range map[string]int{"honoured": s3test.Honour, "ignored": s3test.Ignore, "refused": s3test.Refuse} {
		for _, lie := range []s3test.ReadLie{s3test.ReadsPart, s3test.ReadsTwice, s3test.ReadsOther} {
			t.Run(fmt.Sprint(name, " ", lie), func(t *testing.T) {
				runKeeperTest(t, func(t *testing.T, k *keeperTest) {
					keys := k.shipEach(k.smallUsages(1)...)
					var garbled atomic.Bool
					k.fake.Behave(s3test.Behaviour{Each: func(r *http.Request) s3test.Behaviour {
						b := s3test.Behaviour{Conditions: conditions}
						switch {
						case strings.Contains(r.URL.Path, "/dt=") && r.Method == http.MethodHead: // a HEAD without metadata causes a read
							b.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
								w.Header().Set("ETag", `"x"`)
								w.Header().Set("Last-Modified", "Mon, 23 Nov 2026 08:00:00 GMT")
								return true
							}
						case strings.Contains(r.URL.Path, "/dt=") && r.Method == http.MethodGet && garbled.CompareAndSwap(false, true):
							b.Read = lie
						}
						return b
					}})
					k.stop()
					k.start()
					synctest.Wait()
					if !garbled.Swap(false) {
						t.Error("the object was not read after the restart")
					}
					time.Sleep(testKeep)
					synctest.Wait()
					if !garbled.Load() {
						t.Error("the look did not read the object")
					}
					k.checkCounts(0, 0, 0, 0)
					k.checkLogged("level=WARN", 0)
					k.checkLogged("level=ERROR", 0)
					for key, n := range k.fake.Puts() {
						if strings.Contains(key, "/dt=") && (key != keys[0] || n != 1) {
							t.Errorf("%s was put %d times", key, n)
						}
					}
				})
			})
		}
	}
}
