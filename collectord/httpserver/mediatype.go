package httpserver

import (
	"mime"
	"strings"
)

// mediaType is the format of a body by its Content-Type.
type mediaType int

const (
	jsonContent   mediaType = iota // one JSON object, or an array of them
	objectContent                  // one JSON object
	arrayContent                   // a JSON array of objects
	linesContent                   // NDJSON: one object per line
	formContent                    // a form, which curl -d declares by default
	otherContent
)

// mediaTypeOf parses a Content-Type (RFC 9110, section 8.3). A body without one is JSON.
//
//	application/json                       object or array
//	application/x-ndjson, …/ndjson,        lines
//	  text/x-ndjson, application/jsonl,
//	  …/json-lines, …/x-jsonlines
//	application/cloudevents-batch+json     array
//	application/*+json                     object (RFC 6839, section 3.1)
//	application/x-www-form-urlencoded      a form, which is rejected with advice
//	anything else, or not in UTF-8         other
func mediaTypeOf(contentType []byte) mediaType {
	switch string(contentType) { // common values, without allocating
	case "", "application/json", "application/json; charset=utf-8", "application/json;charset=utf-8", "application/json; charset=UTF-8", "application/json;charset=UTF-8":
		return jsonContent
	case "application/x-ndjson":
		return linesContent
	}
	media, params, err := mime.ParseMediaType(string(contentType))
	if media == "application/x-www-form-urlencoded" {
		return formContent
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8":
	default:
		return otherContent
	}
	name, application := strings.CutPrefix(media, "application/")
	kind, suffixed := strings.CutSuffix(name, "+json")
	switch {
	case err != nil:
		return otherContent
	case media == "application/json":
		return jsonContent
	case media == "text/x-ndjson":
		return linesContent
	case !application:
		return otherContent
	case name == "x-ndjson", name == "ndjson", name == "jsonl", name == "json-lines", name == "x-jsonlines":
		return linesContent
	case name == "cloudevents-batch+json":
		return arrayContent
	case suffixed && kind != "":
		return objectContent
	}
	return otherContent
}
