package units

import (
	"math"
	"testing"
)

func TestUnitsAreReadable(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Bytes(0), "0 B"},
		{Bytes(1023), "1,023 B"},
		{Bytes(1024), "1 KiB"},
		{Bytes(1<<20 - 1), "1 MiB"},
		{Bytes(1536 << 20), "1.5 GiB"},
		{Bytes(100 << 40), "100 TiB"},
		{Bytes(math.MaxInt64), "8 EiB"},
		{Bytes(-3 << 30), "-3 GiB"},
		{Bytes(math.MinInt64), "-8 EiB"},
		{Count(0), "0"},
		{Count(999), "999"},
		{Count(1000), "1,000"},
		{Count(math.MaxUint64), "18,446,744,073,709,551,615"},
		{Number(0), "0"},
		{Number(0.5), "0.5"},
		{Number(12.345), "12.3"},
		{Number(99.96), "100"},
		{Number(12345.6), "12,346"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
