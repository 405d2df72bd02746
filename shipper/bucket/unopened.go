package bucket

import (
	"context"
	"io"
	"iter"
)

// unopened is a destination that can't be opened.
type unopened struct {
	name string
	err  error
}

// Unopened returns a Store for a destination that can't be opened, so that others in a
// list can be used. All its calls return err.
func Unopened(name string, err error) Store { return unopened{name, err} }

func (u unopened) Put(context.Context, *Object) error           { return u.err }
func (u unopened) Stat(context.Context, string) (Stored, error) { return Stored{}, u.err }
func (u unopened) Probe(context.Context) error                  { return u.err }
func (u unopened) Capabilities() Capabilities                   { return Capabilities{} }
func (u unopened) String() string                               { return u.name }
func (u unopened) List(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("", u.err) }
}

func (u unopened) Open(context.Context, string) (io.ReadCloser, Stored, error) {
	return nil, Stored{}, u.err
}
