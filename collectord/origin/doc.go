// Package origin decides whether a request may be the work of a web page that has
// no business here.
//
// A browser sends requests for any page to any address, and adds by itself what
// authenticates its host: a client certificate, or that it runs on this machine.
// What a page can't change are the headers Origin, Host and Sec-Fetch-Site, so
// those decide.
//
// It owns the rule and the reading of these headers. It does not own who may send
// (a bearer token is never added by a browser, so whoever shows one needs no
// rule), nor what is answered.
//
// Everything here is pure: no sockets, no clocks, no state.
package origin
