package httpserver

import (
	"testing"

	"collectord/collectord/testrun"
)

func TestMain(m *testing.M) {
	testrun.LimitParallel()
	m.Run()
}
