package bucket

import "errors"

// Failure is an error in words for people.
type Failure struct {
	Kind      string // as Error.Kind; "local" of what is no failure of the storage
	Text      string // without the hint
	Hint      string // what to do about it, or empty
	Permanent bool   // will not go away without somebody doing something
}

// FailureOf takes an error apart.
func FailureOf(err error) Failure {
	var e *Error
	if !errors.As(err, &e) {
		return Failure{Kind: "local", Text: err.Error()}
	}
	bare := *e
	bare.Hint = ""
	return Failure{e.Kind, bare.Error(), e.Hint, e.Permanent}
}
