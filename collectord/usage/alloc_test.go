//go:build !race

package usage

import (
	"fmt"
	"testing"
)

// Comparing names reuses the memory of the previous text.
func TestComparingCostlyNamesAllocatesNothing(t *testing.T) {
	for name, text := range costlyNames() {
		var s Splitter
		values := 0
		split := func() {
			s.Reset(text, Datagram, Limits{})
			for s.Next() {
				values++
			}
		}
		split() // allocates the memory
		if n := testing.AllocsPerRun(3, split); n > 0 || values == 0 {
			t.Errorf("%s: %v allocations, %d values", name, n, values)
		}
	}
}

// A too large object uses memory only for the names in its first MaxUsageBytes bytes.
func TestNamesOfTooLargeUsagesUseNoMemory(t *testing.T) {
	text := costlyNames()["plain"]
	var f scanner
	f.scanObject(text, len(text)/8)
	if f.fault.Code != "" || len(f.set.slots) > 4096 {
		t.Errorf("%+v, %d slots", f.fault, len(f.set.slots))
	}
	var many []byte
	for i := range 2 * maxKeptNames {
		many = fmt.Appendf(many, `"%d":1,`, i)
	}
	var s Splitter
	s.Reset(fmt.Appendf(nil, `{%s"a":1}`, many), Object, Limits{})
	if !s.Next() || s.scanner.set != nil {
		t.Errorf("error %v, or memory for %d names was kept", s.Err(), 2*maxKeptNames)
	}
}

func TestCheckingAUsageAllocatesNothing(t *testing.T) {
	text := []byte(`{"patientId":"100","timestamp":"2026-11-23T08:30:12Z","medication":"Salbutamol","puffs":2}`)
	if n := testing.AllocsPerRun(1000, func() {
		if _, fault := Check(text); fault != nil {
			t.Fatal(fault)
		}
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
