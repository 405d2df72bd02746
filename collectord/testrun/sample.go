package testrun

import "os"

// OneIn returns n: an exhaustive test tries one in n of its cases, so that go test ./...
// stays quick. With TEST_ALL=1, as in make test, it returns 1.
func OneIn(n int) int {
	if os.Getenv("TEST_ALL") == "1" {
		return 1
	}
	return n
}
