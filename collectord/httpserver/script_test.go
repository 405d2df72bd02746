package httpserver

import (
	"bytes"
	"net"
	"time"
)

// scriptedConn is a connection whose client has already sent everything.
type scriptedConn struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *scriptedConn) Read(p []byte) (int, error)         { return s.in.Read(p) }
func (s *scriptedConn) Write(p []byte) (int, error)        { return s.out.Write(p) }
func (s *scriptedConn) Close() error                       { return nil }
func (s *scriptedConn) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (s *scriptedConn) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (s *scriptedConn) SetDeadline(_ time.Time) error      { return nil }
func (s *scriptedConn) SetReadDeadline(_ time.Time) error  { return nil }
func (s *scriptedConn) SetWriteDeadline(_ time.Time) error { return nil }

// serveScript serves a connection of the named client, which sends text, and returns what was
// written to it.
func serveScript(h *Server, client, text string) string {
	s := &scriptedConn{in: bytes.NewReader([]byte(text))}
	c := h.newConn(s)
	c.certificateName = client
	c.serve()
	return s.out.String()
}
