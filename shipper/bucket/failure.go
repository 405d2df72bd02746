package bucket

import "errors"

// Failure is an error as text for people.
type Failure struct {
	Kind      string // as Error.Kind; "local" for an error that is not the storage's
	Text      string // without the hint
	Hint      string // what to do about it; may be empty
	Permanent bool   // a person has to correct something
}

// FailureOf converts an error.
func FailureOf(err error) Failure {
	var e *Error
	if !errors.As(err, &e) {
		return Failure{Kind: "local", Text: err.Error()}
	}
	bare := *e
	bare.Hint = ""
	return Failure{e.Kind, bare.Error(), e.Hint, e.Permanent}
}
