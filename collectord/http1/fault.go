package http1

// Kind classifies faults by the status of their response.
type Kind uint8

// Kinds of faults, with the status of their response.
const (
	BadFraming  Kind = iota + 1 // 400
	TooLarge                    // 431: the header exceeds the limit given to New
	BadVersion                  // 505
	Expectation                 // 417
)

// Fault is why a request is rejected. Reason is sent to the client and contains none of
// the client's bytes.
type Fault struct {
	Kind   Kind
	Reason string
}

func (c *Conn) fail(k Kind, reason string) element {
	c.fault = Fault{k, reason}
	return bad
}

func (c *Conn) badFraming(reason string) element { return c.fail(BadFraming, reason) }
