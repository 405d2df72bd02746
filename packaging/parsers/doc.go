// Package parsers holds package http1 against another parser of HTTP/1, fasthttp's, which
// is in no program of ours: see its tests.
package parsers
