// Package usage defines which JSON objects are valid usages, and splits texts into usages.
//
//	Check     a text -> its only usage, or an error
//	Splitter  an HTTP body or a datagram -> its usages, one at a time
//
// A usage is one JSON object (RFC 8259) that every common JSON reader accepts: valid
// UTF-8, no duplicate names in an object, no lone surrogates, at most 64 levels of
// nesting, integers within [-2^63, 2^64), other numbers finite in binary64.
//
// The package owns these rules, the formats in which a text contains several usages, and
// the error codes. It does not own where a text comes from, decompression, or the storage
// of usages.
//
// The package is pure: it uses no sockets, files or clocks.
//
// Invariants:
//
//   - HTTP and UDP accept the same usages: both use a Splitter.
//
//   - A usage is returned byte for byte as received, except that line breaks between
//     tokens are removed in place. A usage therefore fits on one line.
//
//   - An error contains an offset and a fixed reason, never received data.
//
//   - A text is scanned once from front to back. The exception is an array element that
//     can't be stored: a second scan from its beginning finds its end.
package usage
