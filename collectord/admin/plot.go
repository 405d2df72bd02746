package admin

import (
	"fmt"
	"math"
	"strings"
)

// The coordinates of a plot, as in page.html: from left to right a unit for each interval.
const (
	plotHeight = 100
	barWidth   = 6 // a bar is a minute
)

// A plot is the last hour of a few series, drawn on one scale that begins at 0.
type plot struct {
	Title   string
	Lines   []line
	Top     string // what the upper edge stands for
	Summary string // for who does not see it
	Empty   bool   // nothing is known yet
}

// A line is one series of a plot.
type line struct {
	Name string // empty where there is one alone
	Kind string // how it is drawn: "main", "second" or "bars"
	Path string // of SVG
	Area string // the same, down to 0; empty unless Kind is "main"
	Now  string // the latest value; a dash where it is not known
}

// points are the values of a line, the oldest first. What is not known is NaN.
type points struct {
	name, kind string
	values     []float64
}

// newPlot draws all points on one scale. format writes a value with its unit.
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

// extent is the range of what is known.
func extent(values []float64) (low, high float64, ok bool) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) {
			low, high, ok = min(low, v), max(high, v), true
		}
	}
	return low, high, ok
}

// roundedUp is the least of 1, 2 and 5 times a power of ten that is not below v.
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

// height is where a value is drawn; y grows downwards.
func height(v, top float64) int {
	return int(math.Round(plotHeight * (1 - min(1, max(0, v/top)))))
}

// path connects the values, and leaves a gap where one is not known; with filled it goes
// along the lower edge back to where each stretch began.
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

// stretch draws values of which all are known. Of those that are level only the first and
// the last are written.
func stretch(b *strings.Builder, values []float64, x int, top float64) {
	for i, v := range values {
		y := height(v, top)
		switch {
		case i == 0:
			fmt.Fprintf(b, "M%d %dh0", x, y) // one alone is a dot
		case i < len(values)-1 && height(values[i-1], top) == y && height(values[i+1], top) == y:
		default:
			fmt.Fprintf(b, "L%d %d", x+i, y)
		}
	}
}

// bars draws the value of each minute. What is more than 0 is seen.
func bars(values []float64, top float64) string {
	var b strings.Builder
	for i, v := range values {
		if v > 0 {
			fmt.Fprintf(&b, "M%d %dV%dh%dV%dz", i*barWidth, plotHeight, min(height(v, top), plotHeight-2), barWidth-1, plotHeight)
		}
	}
	return b.String()
}

// minutes sums up values, each minute's; one of which nothing is known is not known.
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
