package httpserver

import (
	"strings"
	"testing"
)

func TestContentTypes(t *testing.T) {
	for contentType, want := range map[string]mediaType{
		"":                                                  jsonContent,
		"application/json":                                  jsonContent,
		"Application/JSON; charset=UTF-8":                   jsonContent,
		"application/json;charset=utf8":                     jsonContent,
		`application/json; charset="utf-8"`:                 jsonContent,
		"application/json; charset=latin1":                  otherContent,
		"application/json; charset":                         otherContent,
		"application/json; a=1; a=2":                        otherContent,
		"application/x-ndjson":                              linesContent,
		"application/ndjson":                                linesContent,
		"text/x-ndjson; charset=utf8":                       linesContent,
		"application/jsonl":                                 linesContent,
		"application/json-lines":                            linesContent,
		"application/x-jsonlines":                           linesContent,
		"application/ndjson; charset=utf-16":                otherContent,
		"text/ndjson":                                       otherContent,
		"application/cloudevents+json":                      objectContent,
		"application/problem+json":                          objectContent,
		"application/vnd.a.b+JSON; version=1":               objectContent,
		"application/cloudevents-batch+json":                arrayContent,
		"application/+json":                                 otherContent,
		"text/vnd.a+json":                                   otherContent,
		"application/cloudevents+xml":                       otherContent,
		"application/x-www-form-urlencoded":                 formContent,
		"application/x-www-form-urlencoded; charset=latin1": formContent,
		"text/plain":                                        otherContent,
		"/":                                                 otherContent,
		"\x00":                                              otherContent,
	} {
		if got := mediaTypeOf([]byte(contentType)); got != want {
			t.Errorf("%q: %d, want %d", contentType, got, want)
		}
	}
}

// A body that does not match its Content-Type is rejected as a whole.
func TestBodiesMustMatchTheirContentType(t *testing.T) {
	const object, array, lines = `{"a":1}`, `[{"a":1},{"a":2}]`, "{\"a\":1}\n{\"a\":2}\n"
	for contentType, want := range map[string][3]int{ // statuses of the three
		"application/json":                   {201, 201, 400},
		"application/cloudevents+json":       {201, 415, 400},
		"application/cloudevents-batch+json": {415, 201, 415},
		"text/x-ndjson":                      {201, 400, 201},
		"text/plain":                         {415, 415, 415},
	} {
		for i, body := range []string{object, array, lines} {
			for _, mark := range []string{"", "\ufeff"} {
				log := newMemoryLog()
				_, addr := startServer(t, log, Options{})
				response, text := roundTrip(t, addr, post(mark+body, "Content-Type: "+contentType))
				if response.StatusCode != want[i] || (len(log.usages) > 0) != (want[i] == 201) || strings.Contains(strings.Join(log.usages, ""), "\ufeff") {
					t.Errorf("%s: %q: %s %s, stored %q", contentType, mark+body, response.Status, text, log.usages)
				}
			}
		}
	}
}
