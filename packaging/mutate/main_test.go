package main

import (
	"io"
	"testing"
)

// A change of the code can rename or remove a mutant. Its entry in the list of survivors would
// then stop make mutate.
func TestEachListedSurvivorIsAMutant(t *testing.T) {
	t.Chdir("../..") // the roots of the targets are relative to the module
	for name, target := range targets {
		if err := target.mutate(io.Discard, options{}, true, func(mutant) bool { return true }); err != nil {
			t.Errorf("-target %s -list: %v", name, err)
		}
	}
}
