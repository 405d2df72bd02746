package usage

import "testing"

func BenchmarkCheck(b *testing.B) {
	text := []byte(`{"patientId":"100","timestamp":"2026-11-23T08:00:00Z","medication":"Salbutamol","device":"in-0000"}` + "\n")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, fault := Check(text); fault != nil {
			b.Fatal(fault)
		}
	}
}
