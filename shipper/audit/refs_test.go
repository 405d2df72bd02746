package audit

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestObjectsOfARunAreSortedAcrossChunks(t *testing.T) {
	for _, n := range []int{0, 1, chunkSize, chunkSize + 1, 10*chunkSize + 7} {
		var r objectRefs
		for _, i := range rand.Perm(n) {
			r.add(objectRef{first: 1 + uint64(i), count: 1, kind: plain})
		}
		r.sort()
		got := slices.Collect(r.all())
		if len(got) != n || r.Len() != n || !slices.IsSortedFunc(got, func(a, b objectRef) int { return int(a.first) - int(b.first) }) {
			t.Errorf("got %d of %d objects: %v", len(got), n, got)
		}
		if n > 0 && (r.first().first != 1 || r.at(n-1).first != uint64(n)) {
			t.Errorf("the objects range from %d to %d, want 1 to %d", r.first().first, r.at(n-1).first, n)
		}
		for range r.all() { // an iteration may end early
			break
		}
	}
}
