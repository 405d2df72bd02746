package main

import (
	"runtime"
	"testing"
)

func TestProcLimitIsRaisedAndLowered(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	p := &procLimit{cores: 2}
	var back []func()
	for _, want := range []int{3, 4, 4} {
		back = append(back, p.raise())
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("GOMAXPROCS is %d after %d raises, want %d", got, len(back), want)
		}
	}
	for i, want := range []int{4, 3, 2} {
		back[i]()
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("GOMAXPROCS is %d after %d were undone, want %d", got, i+1, want)
		}
	}
}
