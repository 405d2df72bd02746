package httpserver

import (
	"bytes"
	"net"
	"time"
)

// script is a connection on which all has been sent already.
type script struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)         { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)        { return s.out.Write(p) }
func (s *script) Close() error                       { return nil }
func (s *script) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (s *script) SetDeadline(_ time.Time) error      { return nil }
func (s *script) SetReadDeadline(_ time.Time) error  { return nil }
func (s *script) SetWriteDeadline(_ time.Time) error { return nil }

// serveScript serves a connection on which all has been sent, as the named client's, and
// returns what was written to it.
func serveScript(h *Server, client, text string) string {
	s := &script{in: bytes.NewReader([]byte(text))}
	c := h.newConn(s)
	c.certificateName = client
	c.serve()
	return s.out.String()
}
