package histogram

// Since returns what was counted after an earlier Distribution of the same Histogram.
func (d Distribution) Since(before Distribution) Distribution {
	if len(before.Counts) != len(d.Counts) {
		return d
	}
	later := Distribution{Bounds: d.Bounds, Counts: make([]uint64, len(d.Counts)), Sum: max(0, d.Sum-before.Sum)}
	for i, n := range d.Counts {
		later.Counts[i] = n - min(n, before.Counts[i])
	}
	return later
}

// Quantile estimates the value that a share q (0 to 1) of all values does not exceed, as
// if those of a bucket were spread evenly. What is beyond all bounds counts as the last
// bound. It is false where nothing was counted.
func (d Distribution) Quantile(q float64) (v float64, ok bool) {
	total := d.Count()
	if total == 0 || len(d.Bounds) == 0 {
		return 0, false
	}
	rank, below, lower := q*float64(total), 0.0, 0.0
	for i, bound := range d.Bounds {
		if n := float64(d.Counts[i]); n > 0 && below+n >= rank {
			return lower + (bound-lower)*max(0, rank-below)/n, true
		}
		below += float64(d.Counts[i])
		lower = bound
	}
	return lower, true
}
