package http1

import "testing"

// The answer to a HEAD has no body, whatever is wrong with its header.
func TestTheAnswerToABrokenHEADHasNoBody(t *testing.T) {
	c := New(8 << 10)
	if e, _, _ := c.Next([]byte("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")); e != Bad {
		t.Fatal(e)
	}
	if !c.HeaderOnly() {
		t.Error("a body follows")
	}
}
