package admin

import (
	"strings"
	"testing"
	"time"
)

func TestTextsOfThePageAreReadable(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct{ got, want string }{
		{bytesText(1536 << 20), "1.5 GiB"},
		{durationText(-time.Hour), "0 s"},
		{durationText(59900 * time.Millisecond), "59 s"},
		{durationText(time.Minute), "1 min"},
		{durationText(61 * time.Second), "1 min 1 s"},
		{durationText(3*time.Hour + 12*time.Minute + 59*time.Second), "3 h 12 min"},
		{durationText(10*time.Minute + 59*time.Second), "10 min"},
		{durationText(day), "1 d"},
		{durationText(400*day + 5*time.Hour), "400 d 5 h"},
		{latencyText(0), "0"},
		{latencyText(0.00009), "90 µs"},
		{latencyText(0.00152), "1.52 ms"},
		{latencyText(0.9999), "1 s"},
		{latencyText(52.4), "52.4 s"},
		{rateText(0), "0/s"},
		{rateText(0.1), "0.1/s"},
		{rateText(0.0997), "0.1/s"},
		{rateText(0.01), "<0.1/s"},
		{rateText(9.96), "10/s"},
		{rateText(9.9), "9.9/s"},
		{rateText(99.96), "100/s"},
		{rateText(123456.7), "123,457/s"},
		{plural(1, "time"), "1 time"},
		{plural(uint64(2000), "time"), "2,000 times"},
		{sentence("so it is"), "So it is"},
		{sentence(""), ""},
		{shortened("short"), "short"},
		{shortened(strings.Repeat("a", maxTextChars) + "the end"), strings.Repeat("a", 100) + "…" + strings.Repeat("a", 192) + "the end"},
	} {
		if got := strings.ReplaceAll(c.got, nbsp, " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
