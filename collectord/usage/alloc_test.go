//go:build !race

package usage

import (
	"fmt"
	"testing"
)

// What it costs to compare names is memory that is kept for the next text.
func TestNamesThatAreWorkToCompareAllocateNothing(t *testing.T) {
	for name, text := range hostileNames() {
		var s Splitter
		values := 0
		split := func() {
			s.Reset(text, Datagram, Limits{})
			for s.Next() {
				values++
			}
		}
		split() // makes room
		if n := testing.AllocsPerRun(3, split); n > 0 || values == 0 {
			t.Errorf("%s: %v allocations, %d values", name, n, values)
		}
	}
}

// An object that is too large to be stored needs no memory for more names than one
// that is not.
func TestNamesOfWhatIsTooLargeTakeNoMemory(t *testing.T) {
	text := hostileNames()["plain"]
	var f scanner
	f.find(text, len(text)/8)
	if f.fault.Code != "" || len(f.set.slots) > 4096 {
		t.Errorf("%+v, %d slots", f.fault, len(f.set.slots))
	}
	var many []byte
	for i := range 2 * keptNames {
		many = fmt.Appendf(many, `"%d":1,`, i)
	}
	var s Splitter
	s.Reset(fmt.Appendf(nil, `{%s"a":1}`, many), Object, Limits{})
	if !s.Next() || s.scanner.set != nil {
		t.Errorf("%v, and memory for %d names is kept", s.Err(), 2*keptNames)
	}
}

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
