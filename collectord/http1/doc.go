// Package http1 is the server's side of HTTP/1.0 and 1.1 (RFC 9110, RFC 9112) as a state
// machine. It parses bytes into requests and pieces of their bodies, and formats responses
// as bytes. It has no sockets, clocks, goroutines or pools, keeps no bytes, and allocates
// nothing.
//
// # Theory of operation
//
// A [Conn] represents one connection. The caller keeps all bytes that have arrived and
// are not consumed, and passes them to [Conn.Next] whenever more have arrived. Next
// consumes some of them and returns what they contain:
//
//	More     no complete element: call again with more bytes
//	Header   a request's complete header, described by [Conn.Request]
//	Body     a piece of the request's body, with the chunked coding removed
//	End      the request is complete
//	Bad      the request is rejected; [Conn.Fault] returns why
//
// The response is written with [Conn.AppendContinue] and [Conn.AppendResponse], at any time
// after Header or Bad. Two rules hold in all states:
//
//  1. A request is read only after the previous one was read to its end and answered.
//     Until then the bytes of the next request stay unconsumed and unchecked.
//  2. A request is the last one of its connection if it was answered before it was read
//     to its end, if it asked for the end of the connection, or if it is Bad.
//
// All that a Conn stores about a request is replaced as a whole when the next one begins.
// The result does not depend on how the bytes were split into reads: each line is checked
// once it is complete, in the order received.
//
// # States
//
// The table lists the next state for each state and element. It equals the variable
// transitions, and only these transitions change the state of a Conn:
//
//	state      element          next state
//	Start      empty line       Start       before a request line, as RFC 9112 section 2.2 has it
//	Start      request line     Fields
//	Fields     field line       Fields
//	Fields     end, no body     Done
//	Fields     end, length      Fixed
//	Fields     end, chunked     ChunkSize
//	Fixed      piece            Fixed
//	Fixed      last piece       Done
//	ChunkSize  size             ChunkData
//	ChunkSize  size 0           Trailer
//	ChunkData  piece            ChunkData
//	ChunkData  last piece       ChunkEnd
//	ChunkEnd   CR LF            ChunkSize
//	Trailer    field line       Trailer
//	Trailer    end              Done
//	Done       answered         Start       if the connection stays open
//	any        bad element      Broken
//
// # What is rejected, and why
//
// A request is Bad if a proxy in front of the server could see it begin or end elsewhere
// (request smuggling). The reasons are a line that ends with LF alone, a continued line,
// white space before a colon, a length that is not one number, both a length and chunks,
// a coding other than chunked, more than one Host, control characters, a chunk size that
// is not hexadecimal, and a trailer field that decides the framing. Versions other than
// 1.0 and 1.1 are answered 505.
package http1
