// Package auth decides which clients may send, and how much.
//
//	Policy.Token         a bearer token         -> the client's name, or a Reason
//	Policy.Certificates  peer certificates      -> trusted, or a Reason
//	ClientOf             a certificate          -> the client's name
//	Policy.Page          request headers        -> allowed, or why a page of another site may have sent it
//	Rates.Take           a client and a number  -> allowed, or when to retry
//	Clients.Accepted     a client and a number  -> counts them and the time
//
// The package owns the tokens file, the TLS certificates and certificate authorities,
// the limits in usages per second, and the counts of each client. It does not own
// connections, requests or responses: the caller turns a Reason into a response. Package
// origin owns the rule for web pages.
//
// The package opens no sockets. Only Policy.Certificates reads the clock, to verify
// certificates. Only ReadTokens, ReadTLS and Expiries read files.
//
// Invariants:
//
//   - Tokens are stored only as SHA-256 digests, and never compared byte by byte.
//
//   - A Policy with its Tokens and TLS is replaced as a whole: a reload changes all of
//     them or none. Certificates accepted before a reload are checked again under the
//     new Policy.
//
//   - Errors and Reasons contain no secret, and no value from a client. The only file
//     content in an error is the type of an unexpected PEM block.
package auth
