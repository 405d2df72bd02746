package main

import (
	"fmt"
	"slices"
)

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// ratios are the ratios of all rounds. They print as median, lowest and highest.
type ratios []float64

func (r ratios) String() string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(r), slices.Min(r), slices.Max(r))
}
