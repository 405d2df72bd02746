package testrun

import "testing"

func TestOneInIsAllWithTestAll(t *testing.T) {
	for all, want := range map[string]int{"": 7, "0": 7, "1": 1} {
		t.Setenv("TEST_ALL", all)
		if got := OneIn(7); got != want {
			t.Errorf("with TEST_ALL=%q one in %d, want %d", all, got, want)
		}
	}
}
