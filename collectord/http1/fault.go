package http1

// Kind is how a Fault is answered.
type Kind uint8

// Kinds of faults, with the status of their answer.
const (
	BadFraming  Kind = iota + 1 // 400
	TooLarge                    // 431: the header is longer than it may be
	BadVersion                  // 505
	Expectation                 // 417
)

// Fault is what keeps a request from being served. Its reason is for the client, and
// repeats nothing that came.
type Fault struct {
	Kind   Kind
	Reason string
}

// fail notes what is wrong.
func (c *Conn) fail(k Kind, reason string) element {
	c.fault = Fault{k, reason}
	return bad
}

func (c *Conn) badFraming(reason string) element { return c.fail(BadFraming, reason) }
