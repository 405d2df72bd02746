// Package units formats sizes and numbers for people. All commands and pages use it, so
// that a size reads the same everywhere.
package units

import (
	"math"
	"strconv"
)

// Bytes formats a size with up to three significant digits, such as "1.4 GiB".
func Bytes(n int64) string {
	value, unit := math.Abs(float64(n)), 0
	names := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for math.Round(value) >= 1024 {
		value, unit = value/1024, unit+1
	}
	text := Number(value) + " " + names[unit]
	if n < 0 {
		return "-" + text
	}
	return text
}

// Number formats a number that is not negative, with up to three significant digits or
// with all digits before the decimal point.
func Number(v float64) string {
	if v >= 99.95 {
		return Count(uint64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Count formats a number with thousands separators, such as "1,234,567".
func Count(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
