package audit

import (
	"cmp"
	"iter"
	"sort"
)

// objectRefs are the objects of a run, in chunks: one slice would need twice its size
// while append copies it.
type objectRefs struct {
	chunks [][]objectRef // all but the last are full
}

const chunkSize = 64 // small, since each of many runs leaves a chunk that is partly filled

func (r *objectRefs) add(o objectRef) {
	n := len(r.chunks)
	if n == 0 || len(r.chunks[n-1]) == chunkSize {
		r.chunks = append(r.chunks, nil)
		n++
	}
	r.chunks[n-1] = append(r.chunks[n-1], o)
}

func (r *objectRefs) at(i int) *objectRef { return &r.chunks[i/chunkSize][i%chunkSize] }

// first returns the first object. There must be at least one.
func (r *objectRefs) first() objectRef { return r.chunks[0][0] }

// all iterates over the objects in order.
func (r *objectRefs) all() iter.Seq[objectRef] {
	return func(yield func(objectRef) bool) {
		for _, c := range r.chunks {
			for _, o := range c {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// sort orders the objects by seq. Listings are mostly in that order already.
func (r *objectRefs) sort() {
	if !sort.IsSorted(r) {
		sort.Sort(r)
	}
}

// Len returns the number of objects. It is part of sort.Interface.
func (r *objectRefs) Len() int {
	if len(r.chunks) == 0 {
		return 0
	}
	return (len(r.chunks)-1)*chunkSize + len(r.chunks[len(r.chunks)-1])
}

// Less is part of sort.Interface.
func (r *objectRefs) Less(i, j int) bool {
	a, b := r.at(i), r.at(j)
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.count, b.count), cmp.Compare(min(a.kind, 0), min(b.kind, 0)),
		cmp.Compare(a.hour, b.hour), cmp.Compare(a.sha8, b.sha8), cmp.Compare(a.kind, b.kind)) < 0
}

// Swap is part of sort.Interface.
func (r *objectRefs) Swap(i, j int) {
	a, b := r.at(i), r.at(j)
	*a, *b = *b, *a
}
