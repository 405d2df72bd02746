package doctor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a clock's offset.
const (
	clockTolerance = time.Minute      // an offset up to this is ignored
	clockRefused   = 15 * time.Minute // S3 refuses requests signed with a larger offset
)

// Clock is what is known about the host's clock.
type Clock struct {
	Now    time.Time
	Built  time.Time // when the program was built, or its source last changed; zero: unknown
	Newest time.Time // when the newest record in the log was received; zero: the log is empty
	// Ahead is the offset of the host's clock from the storage's, if Compared. It is
	// positive if the host's clock is ahead.
	Ahead    time.Duration
	Compared bool
}

// Agrees reports whether the host's clock agrees with the storage's. If it does, a
// record from the future means that the clock was ahead earlier, not that it was set
// back.
func (c Clock) Agrees() bool { return c.Compared && c.Ahead.Abs() <= clockTolerance }

// Checks returns the checks of the clock. A wrong clock puts usages into the wrong
// partition, because the time of receipt determines the partition.
func (c Clock) Checks() (all []Check) {
	const advice = "set the clock by NTP (timedatectl set-ntp true): usages are stored under the hour that it shows"
	switch offset := c.Ahead.Abs(); {
	case !c.Compared:
		all = append(all, Skip("clock.storage", "no storage has answered with a date"))
	case offset > clockRefused:
		all = append(all, Fail("clock.storage", c.offsetText(), "set the clock by NTP (timedatectl set-ntp true): S3 refuses requests of a clock that is off by more than 15 minutes"))
	case offset > clockTolerance:
		all = append(all, Warn("clock.storage", c.offsetText(), advice))
	default:
		all = append(all, Fine("clock.storage", c.offsetText()))
	}
	now := c.Now.UTC().Format(time.DateTime)
	switch {
	case c.Built.IsZero():
		all = append(all, Skip("clock.build", "this program does not know when it was built"))
	case c.Now.Before(c.Built.Add(-clockTolerance)):
		all = append(all, Fail("clock.build", "the clock shows "+now+", but this program was built on "+c.Built.UTC().Format(time.DateTime), advice))
	default:
		all = append(all, Fine("clock.build", "the clock is after "+c.Built.UTC().Format(time.DateOnly)+", when this program was built"))
	}
	switch {
	case c.Newest.IsZero():
		all = append(all, Fine("clock.newest_record", "the log has no record to compare with"))
	case c.Now.Before(c.Newest.Add(-clockTolerance)) && c.Agrees():
		all = append(all, Warn("clock.newest_record", "the newest record is of "+c.Newest.UTC().Format(time.DateTime)+", which is in the future: the clock was ahead then, and is right now", "nothing, unless it happens again: usages of that time are stored under a wrong hour"))
	case c.Now.Before(c.Newest.Add(-clockTolerance)):
		all = append(all, Fail("clock.newest_record", "the clock shows "+now+", but the newest record is of "+c.Newest.UTC().Format(time.DateTime)+": the clock was set back, or was ahead then", advice))
	default:
		all = append(all, Fine("clock.newest_record", "the clock is after the newest record"))
	}
	return all
}

func (c Clock) offsetText() string {
	switch offset := c.Ahead.Round(time.Second); {
	case c.Ahead.Abs() < 2*time.Second: // the storage's date has whole seconds, and is some time old when it is read
		return "the clock agrees with the storage's"
	case offset > 0:
		return fmt.Sprintf("the clock is %v ahead of the storage's", offset)
	default:
		return fmt.Sprintf("the clock is %v behind the storage's", -offset)
	}
}

// NTPCheck returns a check of whether the kernel's clock is synchronized.
func NTPCheck() Check {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return Skip("clock.ntp", "the kernel does not report it: "+err.Error())
	}
	return ntpCheck(t.Status)
}

func ntpCheck(status int32) Check {
	if status&unix.STA_UNSYNC != 0 {
		return Fine("clock.ntp", "nothing tells the kernel that the clock is synchronized: NTP is not running, or runs outside of this container")
	}
	return Fine("clock.ntp", "the clock is synchronized")
}
