package admin

import (
	"fmt"
	"math"
	"strings"
)

// Coordinates of a plot, as in page.html. An interval is one unit wide.
const (
	plotHeight = 100
	barWidth   = 6 // one bar per minute
)

// plot shows one or more series of the last hour on one scale that begins at 0.
type plot struct {
	Title   string
	Lines   []line
	Top     string // the value at the upper edge
	Summary string // for screen readers
	Empty   bool   // no value is known yet
}

// line is one series of a plot.
type line struct {
	Name string // empty if the plot has only one series
	Kind string // style: "main", "second" or "bars"
	Path string // SVG path of the values
	Area string // SVG path of the area below the values; empty unless Kind is "main"
	Now  string // the latest value; a dash if unknown
}

// points contains the values of a line, the oldest first. An unknown value is NaN.
type points struct {
	name, kind string
	values     []float64
}

// newPlot draws all points on one scale. format formats a value with its unit.
func newPlot(title string, format func(float64) string, all ...points) plot {
	p := plot{Title: title, Empty: true}
	top := 0.0
	for _, s := range all {
		low, high, ok := extent(s.values)
		if ok {
			p.Empty = false
			top = max(top, high)
		}
		now := "–"
		if n := len(s.values); n > 0 && !math.IsNaN(s.values[n-1]) {
			now = format(s.values[n-1])
		}
		p.Lines = append(p.Lines, line{Name: s.name, Kind: s.kind, Now: now})
		p.Summary += summary(s.name, now, low, high, ok, format)
	}
	top = roundedUp(top)
	p.Top = format(top)
	for i, s := range all {
		l := &p.Lines[i]
		switch s.kind {
		case "bars":
			l.Path = bars(s.values, top)
		case "main":
			l.Path, l.Area = path(s.values, top, false), path(s.values, top, true)
		default:
			l.Path = path(s.values, top, false)
		}
	}
	return p
}

func summary(name, now string, low, high float64, known bool, format func(float64) string) string {
	if name != "" {
		name += ": "
	}
	if !known {
		return name + "nothing known yet. "
	}
	return fmt.Sprintf("%snow %s, lowest %s, highest %s. ", name, now, format(low), format(high))
}

// extent returns the range of the known values; ok is false if there are none.
func extent(values []float64) (low, high float64, ok bool) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) {
			low, high, ok = min(low, v), max(high, v), true
		}
	}
	return low, high, ok
}

// roundedUp returns the least number of the form 1, 2 or 5 times a power of ten that is
// at least v.
func roundedUp(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if step*power >= v*(1-1e-9) {
			return step * power
		}
	}
	return 10 * power
}

// height returns the y coordinate of a value; y grows downwards.
func height(v, top float64) int {
	return int(math.Round(plotHeight * (1 - min(1, max(0, v/top)))))
}

// path connects the values, with a gap at each unknown one. With filled it closes each
// stretch along the lower edge.
func path(values []float64, top float64, filled bool) string {
	var b strings.Builder
	for from := 0; from < len(values); from++ {
		if math.IsNaN(values[from]) {
			continue
		}
		to := from
		for to+1 < len(values) && !math.IsNaN(values[to+1]) {
			to++
		}
		stretch(&b, values[from:to+1], from, top)
		if filled {
			fmt.Fprintf(&b, "V%dH%dz", plotHeight, from)
		}
		from = to
	}
	return b.String()
}

// stretch draws consecutive known values. It omits the inner points of a horizontal
// part.
func stretch(b *strings.Builder, values []float64, x int, top float64) {
	for i, v := range values {
		y := height(v, top)
		switch {
		case i == 0:
			fmt.Fprintf(b, "M%d %dh0", x, y) // a single point appears as a dot
		case i < len(values)-1 && height(values[i-1], top) == y && height(values[i+1], top) == y:
		default:
			fmt.Fprintf(b, "L%d %d", x+i, y)
		}
	}
}

// bars draws one bar per value. A value above 0 is at least 2 units high, so that it is
// visible.
func bars(values []float64, top float64) string {
	var b strings.Builder
	for i, v := range values {
		if v > 0 {
			fmt.Fprintf(&b, "M%d %dV%dh%dV%dz", i*barWidth, plotHeight, min(height(v, top), plotHeight-2), barWidth-1, plotHeight)
		}
	}
	return b.String()
}

// minutes returns the sum of the values in each minute. The sum is unknown if all
// values of the minute are unknown.
func minutes(values []float64) (sums []float64) {
	for i := 0; i+barWidth <= len(values); i += barWidth {
		sum, known := 0.0, false
		for _, v := range values[i : i+barWidth] {
			if !math.IsNaN(v) {
				sum, known = sum+v, true
			}
		}
		if !known {
			sum = math.NaN()
		}
		sums = append(sums, sum)
	}
	return sums
}
