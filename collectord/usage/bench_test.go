package usage

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func BenchmarkCheck(b *testing.B) {
	text := []byte(`{"patientId":"100","timestamp":"2026-11-23T08:00:00Z","medication":"Salbutamol","device":"in-0000"}` + "\n")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, fault := Check(text); fault != nil {
			b.Fatal(fault)
		}
	}
}

// costlyNames returns datagrams of nearly 64 KiB whose names are costly to compare.
func costlyNames() map[string][]byte {
	object := func(name func(i int) string) []byte {
		text := []byte("{")
		for i := 0; len(text) < 65_000; i++ {
			text = append(text, `"`+name(i)+`":1,`...)
		}
		return append(text[:len(text)-1], '}')
	}
	escaped := func(i int) string {
		return strings.NewReplacer("a", `\u0061`, "1", `\u0031`).Replace(fmt.Sprintf("a%d", i))
	}
	return map[string][]byte{
		"escaped twice, a line": bytes.Repeat([]byte(`{"\u0061":1,"\u0061":2}`+"\n"), 65_000/24),
		"escaped":               object(escaped),
		"plain":                 object(func(i int) string { return fmt.Sprint(i) }),
		"long and alike":        object(func(i int) string { return strings.Repeat(`\u0061`, 300) + fmt.Sprint(i) }),
		"in objects":            bytes.Repeat([]byte(`{"\u0061":{"\u0061":{"\u0061":{"\u0061":1}}},"b":{"\u0062":[{"b":1,"\u0063":2}]}}`+"\n"), 65_000/81),
	}
}

func BenchmarkCostlyNames(b *testing.B) {
	for name, text := range costlyNames() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var s Splitter
			for b.Loop() {
				s.Reset(text, Datagram, Limits{})
				for s.Next() {
				}
			}
		})
	}
}
