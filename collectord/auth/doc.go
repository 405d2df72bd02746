// Package auth decides which clients may send, and how much.
//
//	Policy.Token         a bearer token       -> the client's name, or a Reason
//	Policy.Certificates  peer certificates    -> trusted, or a Reason
//	ClientOf             a certificate        -> the client's name
//	Policy.Page          Origin, Host and so on -> allowed, or why a web page of another site may be behind it
//	Rates.Take           a client and a number  -> allowed, or when to ask again
//	Clients.Accepted     a client and a number  -> counted, with when it was seen last
//
// It owns the tokens file, the certificates and authorities of TLS, the limits in
// usages a second, and what was accepted of each client. It does not own connections, requests or answers: whoever asks
// makes an answer of a Reason. Nor does it own the rule for web pages, which is
// package origin's.
//
// Nothing here opens a socket or reads a clock; files are read by ReadTokens and
// ReadTLS alone.
//
// Invariants:
//
//   - A token is known by its SHA-256 only, and never compared byte by byte.
//
//   - A Policy, its Tokens and its TLS are replaced as a whole, so that a reload holds
//     for all of them or for none; certificates that were accepted before are checked
//     again under the new one.
//
//   - No error and no Reason repeats what a file or a client holds.
package auth
