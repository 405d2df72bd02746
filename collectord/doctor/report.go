package doctor

import "strings"

// Level is the result of a check.
type Level string

// Levels of checks.
const (
	OK        Level = "ok"
	Warning   Level = "warning"   // works now, but may fail
	Error     Level = "error"     // does not work
	Unchecked Level = "unchecked" // could not be checked
)

// Check is the result of one check.
type Check struct {
	Name   string `json:"check"` // group and name, such as data_dir.fsync
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Advice string `json:"advice"` // what to do; empty if nothing
}

// Group returns the part of the name before the first dot.
func (c Check) Group() string {
	group, _, _ := strings.Cut(c.Name, ".")
	return group
}

// Fine returns a Check with level OK.
func Fine(name, found string) Check { return Check{name, OK, found, ""} }

// Warn returns a Check with level Warning.
func Warn(name, found, advice string) Check { return Check{name, Warning, found, advice} }

// Fail returns a Check with level Error.
func Fail(name, found, advice string) Check { return Check{name, Error, found, advice} }

// Skip returns a Check with level Unchecked.
func Skip(name, why string) Check { return Check{name, Unchecked, "not checked: " + why, ""} }

// Report is a list of checks with the worst of their levels. Unchecked does not affect
// the verdict.
type Report struct {
	Checks  []Check `json:"checks"`
	Verdict Level   `json:"verdict"`
}

// NewReport returns the Report of checks.
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

// Count returns the number of checks with a level.
func (r Report) Count(l Level) (n int) {
	for _, c := range r.Checks {
		if c.Level == l {
			n++
		}
	}
	return n
}
