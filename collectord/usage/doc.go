// Package usage says what a usage is, and takes texts apart into usages.
//
//	Check     a text -> the one usage that it is, or what is wrong with it
//	Splitter  a body or a datagram -> its usages, one at a time
//
// A usage is one JSON object (RFC 8259) that no reader of the objects can stumble
// over: valid UTF-8, no name twice in an object, no lone surrogates, at most 64
// levels deep, integers within [-2^63, 2^64), other numbers finite in binary64.
//
// It owns that rule, the ways in which several usages lie in one text, and the codes
// for what can be wrong with them. It does not own where a text comes from, how it
// was compressed, or what becomes of its usages.
//
// Everything here is pure: no sockets, files or clocks.
//
// Invariants:
//
//   - What HTTP and UDP accept is the same: both split with a Splitter.
//
//   - A usage is what was sent, byte for byte, but for line breaks between tokens,
//     which are taken out in place, and so are never in a line of an object.
//
//   - An error names an offset and a reason of ours, never what was sent.
//
//   - A text is read once from front to back, but for an element of an array that
//     can't be stored, whose end is looked for again from its beginning.
package usage
