package testrun

import "time"

// hourIsNear is how long before its end an hour is left to pass: for longer than a test
// fills segments that it then counts.
const hourIsNear = 20 * time.Second

// ClearOfTheHour waits for the turn of an hour that is near: a segment ends with its hour,
// and a test would find one more than it made.
func ClearOfTheHour() {
	if left := untilClear(time.Now()); left > 0 {
		<-time.After(left)
	}
}

func untilClear(now time.Time) time.Duration {
	left := now.Truncate(time.Hour).Add(time.Hour).Sub(now)
	if left > hourIsNear || now.Year() < 2020 { // a bubble's clock: nothing happens by chance
		return 0
	}
	return left
}
