// Package http1 is the server's side of HTTP/1.0 and 1.1 (RFC 9110, RFC 9112) as a state
// machine: bytes in, requests and pieces of their bodies out; answers to bytes. It has no
// sockets, clocks, goroutines or pools, keeps no bytes, and allocates nothing.
//
// # Theory of operation
//
// A [Conn] stands for one connection. Whoever drives it keeps the bytes that came and
// were not consumed, and gives them to [Conn.Next] from the first one on, each time more
// have come. Next consumes some of them and says what they are:
//
//	More     nothing whole yet: come back with more bytes
//	Header   a request's header, which is judged whole; [Conn.Request] describes it
//	Body     a piece of its body, with the chunked coding taken off
//	End      the request is whole
//	Bad      what came is not a request that is served; [Conn.Fault] says why
//
// The answer is written with [Conn.AppendContinue] and [Conn.AppendAnswer], at any time
// after Header or Bad. Two rules stand above all states:
//
//  1. A request is read only once the one before it was read to its end and answered.
//     Until then bytes that follow stay where they are, and nobody has judged them.
//  2. A request that was answered without having been read to its end, that asked for
//     the end of the connection, or that is Bad, is the last one of its connection.
//
// What a Conn knows of a request is replaced as a whole when the next one begins. What it
// says does not depend on how the bytes were cut into reads: lines are judged one at a
// time, when they are whole, in the order in which they came.
//
// # States
//
// Where the reading is, and what each element leads to (the table transitions is this one,
// and nothing else changes the state of a Conn):
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
//	Done       answered         Start       if the connection goes on
//	any        bad element      Broken
//
// # What is refused, and why
//
// Where a proxy in front could see a request begin or end elsewhere, the request is Bad:
// a line that ends with LF alone, a continued line, white space before a colon, a length
// that is not one number, a length beside chunks, a coding that is not chunked, more than
// one Host, control characters, a chunk size that is not hexadecimal digits, a trailer that
// speaks of framing. Versions other than 1.0 and 1.1 are answered 505.
package http1
