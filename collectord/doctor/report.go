package doctor

import "strings"

// Level is how a check ended.
type Level string

// The levels.
const (
	OK        Level = "ok"
	Warning   Level = "warning"   // it works, and something may go wrong
	Error     Level = "error"     // something does not work
	Unchecked Level = "unchecked" // and so nothing is known of it
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"check"` // such as data_dir.fsync: a group, and what of it
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Advice string `json:"advice"` // what to do; empty: nothing
}

// Group is the part of the name before the first dot.
func (c Check) Group() string {
	group, _, _ := strings.Cut(c.Name, ".")
	return group
}

// Fine is a check that found what it should.
func Fine(name, found string) Check { return Check{name, OK, found, ""} }

// Warn is a check that found what may go wrong.
func Warn(name, found, advice string) Check { return Check{name, Warning, found, advice} }

// Fail is a check that found what does not work.
func Fail(name, found, advice string) Check { return Check{name, Error, found, advice} }

// Skip is a check that was not made.
func Skip(name, why string) Check { return Check{name, Unchecked, "not checked: " + why, ""} }

// Report is all checks, and the worst of their levels. What was not checked does not
// change the verdict.
type Report struct {
	Checks  []Check `json:"checks"`
	Verdict Level   `json:"verdict"`
}

// NewReport sums up checks.
func NewReport(checks []Check) Report {
	r := Report{Checks: checks, Verdict: OK}
	switch {
	case r.Count(Error) > 0:
		r.Verdict = Error
	case r.Count(Warning) > 0:
		r.Verdict = Warning
	}
	return r
}

// Count returns how many checks ended so.
func (r Report) Count(l Level) (n int) {
	for _, c := range r.Checks {
		if c.Level == l {
			n++
		}
	}
	return n
}
