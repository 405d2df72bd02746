package testrun

import "time"

// hourIsNear is the time before the end of an hour in which a test must not start. It
// is longer than any test takes to fill and count segments.
const hourIsNear = 20 * time.Second

// WaitPastHourEnd waits for the next hour if the current one is about to end. A segment
// is sealed at the end of its hour, so a test would count one segment more than
// expected.
func WaitPastHourEnd() {
	if left := untilClear(time.Now()); left > 0 {
		<-time.After(left)
	}
}

func untilClear(now time.Time) time.Duration {
	left := now.Truncate(time.Hour).Add(time.Hour).Sub(now)
	if left > hourIsNear || now.Year() < 2020 { // a synctest bubble's clock starts in 2000 and never ends an hour by chance
		return 0
	}
	return left
}
