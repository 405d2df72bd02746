package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"collectord/collectord/units"
)

// anyBytes is bytesText for all numeric types in the template.
func anyBytes(n any) string {
	switch n := n.(type) {
	case *int64:
		return bytesText(*n)
	case uint64:
		return bytesText(int64(min(n, math.MaxInt64)))
	case float64:
		return bytesText(int64(n))
	case int64:
		return bytesText(n)
	}
	return fmt.Sprint(n)
}

// nbsp prevents a line break between a number and its unit.
const nbsp = "\u00a0"

// bytesText is units.Bytes without a line break before the unit.
func bytesText(n int64) string { return strings.ReplaceAll(units.Bytes(n), " ", nbsp) }

// durationText formats a duration for people in its two largest units, such as "3 h 12
// min".
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(large time.Duration, largeUnit string, small time.Duration, smallUnit string) string {
		text := fmt.Sprintf("%d"+nbsp+"%s", d/large, largeUnit)
		if rest := d % large / small; rest > 0 {
			text += fmt.Sprintf(nbsp+"%d"+nbsp+"%s", rest, smallUnit)
		}
		return text
	}
	switch d = max(d, 0); {
	case d >= day:
		return two(day, "d", time.Hour, "h")
	case d >= time.Hour:
		return two(time.Hour, "h", time.Minute, "min")
	case d >= 10*time.Minute:
		d = d.Truncate(time.Minute)
		fallthrough
	case d >= time.Minute:
		return two(time.Minute, "min", time.Second, "s")
	}
	return fmt.Sprintf("%d"+nbsp+"s", d/time.Second)
}

// latencyText formats a short duration for people, such as "1.52 ms".
func latencyText(seconds float64) string {
	switch {
	case seconds == 0:
		return "0"
	case seconds < 0.9995e-3:
		return units.Number(seconds*1e6) + nbsp + "µs"
	case seconds < 0.9995:
		return units.Number(seconds*1e3) + nbsp + "ms"
	}
	return units.Number(seconds) + nbsp + "s"
}

// rateText formats a rate per second for people, such as "0.5/s".
func rateText(perSecond float64) string {
	switch {
	case perSecond > 0 && perSecond < 0.05:
		return "<0.1/s"
	case perSecond < 9.95:
		return strconv.FormatFloat(math.Round(10*perSecond)/10, 'f', -1, 64) + "/s"
	}
	return units.Count(uint64(math.Round(perSecond))) + "/s"
}

// latencyOrDash returns a dash if there is no measurement.
func latencyOrDash(seconds *float64) string {
	if seconds == nil {
		return "–"
	}
	return latencyText(*seconds)
}

// secondsText formats a number of seconds as durationText does.
func secondsText(seconds float64) string {
	const maxSeconds = 1e9 // about 30 years
	return durationText(time.Duration(min(seconds, maxSeconds) * float64(time.Second)))
}

// count is units.Count for all integer types in the template.
func count(n any) string {
	switch n := n.(type) {
	case int:
		return units.Count(uint64(max(n, 0)))
	case uint64:
		return units.Count(n)
	}
	return fmt.Sprint(n)
}

// shortened replaces the middle of a long text by an ellipsis, so that it fits on the
// page. The end stays because an error's cause is there.
func shortened(text string) string {
	if utf8.RuneCountInString(text) <= maxTextChars {
		return text
	}
	runes := []rune(text)
	return string(runes[:maxTextChars/3]) + "…" + string(runes[len(runes)-maxTextChars*2/3+1:])
}

// plural formats a number with a noun, in the plural unless the number is 1.
func plural(n any, noun string) string {
	if number := count(n); number != "1" {
		return number + " " + noun + "s"
	}
	return "1 " + noun
}

// sentence capitalizes the first letter.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	r, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[size:]
}
