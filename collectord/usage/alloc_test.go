package usage

import "testing"

func TestCheckingAUsageAllocatesNothing(t *testing.T) {
	text := []byte(`{"patientId":"100","timestamp":"2026-11-23T08:30:12Z","medication":"Salbutamol","puffs":2}`)
	if n := testing.AllocsPerRun(1000, func() {
		if _, fault := Check(text); fault != nil {
			t.Fatal(fault)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
