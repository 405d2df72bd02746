package admin

import (
	"math"
	"regexp"
	"strings"
	"testing"
)

func TestAPathHasGapsWhereNothingIsKnown(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		values     []float64
		path, area string
	}{
		{[]float64{0, 50, 100}, "M0 100h0L1 50L2 0", "M0 100h0L1 50L2 0V100H0z"},
		{[]float64{nan, 10, nan, nan, 20, 20, 20, 20, 30}, "M1 90h0M4 80h0L7 80L8 70", "M1 90h0V100H1zM4 80h0L7 80L8 70V100H4z"},
		{[]float64{nan, nan}, "", ""},
		{nil, "", ""},
		{[]float64{-5, 1e300}, "M0 100h0L1 0", "M0 100h0L1 0V100H0z"}, // nothing leaves the plot
	} {
		if got := path(c.values, 100, false); got != c.path {
			t.Errorf("path of %v: %s, want %s", c.values, got, c.path)
		}
		if got := path(c.values, 100, true); got != c.area {
			t.Errorf("area of %v: %s, want %s", c.values, got, c.area)
		}
	}
}

func TestBarsAreOneAMinute(t *testing.T) {
	nan := math.NaN()
	values := []float64{nan, nan, nan, nan, nan, nan, 1, nan, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1e-9}
	sums := minutes(values)
	if len(sums) != 4 || !math.IsNaN(sums[0]) || sums[1] != 3 || sums[2] != 0 || sums[3] != 1e-9 {
		t.Errorf("minutes: %v", sums)
	}
	if got, want := bars(sums, 6), "M6 100V50h5V100zM18 100V98h5V100z"; got != want {
		t.Errorf("bars %s, want %s", got, want)
	}
}

func TestTheScaleHasRoundNumbers(t *testing.T) {
	for v, want := range map[float64]float64{
		0: 1, -3: 1, math.Inf(1): 1, math.NaN(): 1, 1: 1, 1.01: 2, 2: 2, 4.9: 5, 5: 5, 5.1: 10, 99: 100, 0.3: 0.5, 0.001: 0.001, 0.0012: 0.002, 123456: 200000,
	} {
		if got := roundedUp(v); math.Abs(got-want) > 1e-9*want {
			t.Errorf("the scale above %v ends at %v, want %v", v, got, want)
		}
	}
}

func TestAPlotHasATextSummary(t *testing.T) {
	nan := math.NaN()
	p := newPlot("Commits", latencyText, points{"p50", "main", []float64{nan, 0.001, 0.003}}, points{"p99", "second", []float64{nan, 0.04, nan}})
	if want := "p50: now 3 ms, lowest 1 ms, highest 3 ms. p99: now –, lowest 40 ms, highest 40 ms. "; strings.ReplaceAll(p.Summary, nbsp, " ") != want || p.Top != "50"+nbsp+"ms" || p.Empty {
		t.Errorf("%+v, want %s", p, want)
	}
	if p := newPlot("Usages", rateText, points{"", "main", []float64{nan, nan}}); !p.Empty || p.Summary != "nothing known yet. " || p.Lines[0].Path != "" || p.Lines[0].Now != "–" {
		t.Errorf("a plot without points: %+v", p)
	}
}

// The size of an hour's path is bounded, whatever the values are.
func TestAPathIsBounded(t *testing.T) {
	values := make([]float64, intervals)
	for i := range values {
		values[i] = []float64{0, 1e9, math.NaN(), math.Inf(1), math.Inf(-1), 3}[i*i%6]
	}
	for _, kind := range []string{"main", "second", "bars"} {
		p := newPlot("x", rateText, points{"", kind, values})
		drawn := p.Lines[0].Path + p.Lines[0].Area
		if len(drawn) > 16<<10 || !regexp.MustCompile(`^[MLHVhz0-9 ]*$`).MatchString(drawn) || strings.Contains(drawn, "NaN") {
			t.Errorf("%s: %d bytes: %.100s", kind, len(drawn), drawn)
		}
	}
}
