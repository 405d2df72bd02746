// Package origin detects requests that a web page of another site may have sent.
//
// A browser sends requests of any page to any address, and authenticates them on its
// own: by a client certificate, or because the browser runs on this host. A page can't change
// the headers Origin, Host and Sec-Fetch-Site, so the decision uses them.
//
// The package owns the rule and the parsing of these headers. It does not own the
// authentication of clients, or the response. A request with a bearer token needs no
// check, because browsers never add one.
//
// The package is pure: it uses no sockets, clocks or state.
package origin
