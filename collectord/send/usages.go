package send

import (
	"time"
)

// source returns usages by number; equal numbers return equal usages. Each worker has its
// own.
type source interface {
	appendUsage(dst []byte, n int64) []byte
}

func (o Options) source() source {
	if o.Payload != nil {
		return o.Payload
	}
	return &generator{seed: o.Seed, from: o.From.UnixMilli(), day: -1}
}

// generator generates usages. All have the same size, 98 bytes, and each usage of a run
// has a different timestamp.
type generator struct {
	seed uint64
	from int64 // Unix time in milliseconds
	day  int64 // days since 1970 of date
	date [len(time.DateOnly)]byte
}

// Offsets of the variable parts of template.
const (
	template   = `{"patientId":"10000000","timestamp":"2026-01-01T00:00:00.000Z","medication":"Salbutamol","dose":1}`
	atPatient  = len(`{"patientId":"100`)
	atDate     = len(`{"patientId":"10000000","timestamp":"`)
	atTime     = atDate + len("2026-01-01T")
	atMedicine = len(`{"patientId":"10000000","timestamp":"2026-01-01T00:00:00.000Z","medication":"`)
	atDose     = len(template) - len("1}")
)

// medications are inhaled drugs whose names have ten letters each.
const medications = "SalbutamolFormoterolBudesonideSalmeterolTiotropiumVilanterolOlodaterolMometasone"

func (g *generator) appendUsage(dst []byte, n int64) []byte {
	const msPerDay = 24 * 60 * 60 * 1000
	r := splitmix(g.seed, uint64(n))
	ms := g.from + n
	day := ms / msPerDay
	if day != g.day {
		g.day = day
		time.UnixMilli(ms).UTC().AppendFormat(g.date[:0], time.DateOnly)
	}
	ms -= day * msPerDay

	at := len(dst)
	dst = append(dst, template...)
	u := dst[at:]
	putDecimal(u[atPatient:], r%100_000, 5)
	copy(u[atDate:], g.date[:])
	putDecimal(u[atTime:], uint64(ms/3_600_000), 2)
	putDecimal(u[atTime+len("00:"):], uint64(ms/60_000%60), 2)
	putDecimal(u[atTime+len("00:00:"):], uint64(ms/1000%60), 2)
	putDecimal(u[atTime+len("00:00:00."):], uint64(ms%1000), 3)
	m := r >> 32 % 8 * 10
	copy(u[atMedicine:], medications[m:m+10])
	putDecimal(u[atDose:], 1+r>>40%4, 1)
	return dst
}

// putDecimal writes n as decimal with the given number of digits.
func putDecimal(dst []byte, n uint64, digits int) {
	for i := digits - 1; i >= 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
}

// splitmix returns the n-th number of splitmix64 (Steele, Lea, Flood 2014) for a seed.
func splitmix(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
