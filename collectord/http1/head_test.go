package http1

import "testing"

// The response to a HEAD request has no body, even if the rest of its header is invalid.
func TestTheResponseToAnInvalidHEADHasNoBody(t *testing.T) {
	c := New(8 << 10)
	if e, _, _ := c.Next([]byte("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")); e != Bad {
		t.Fatal(e)
	}
	if !c.HeaderOnly() {
		t.Error("the response would have a body")
	}
}
