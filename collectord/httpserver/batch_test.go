package httpserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
)

const (
	ndjsonHeader = "Content-Type: application/x-ndjson"
	strictHeader = "Prefer: handling=strict"
	idsHeader    = "Prefer: return=representation"
)

func nthID(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012x", n) }

func TestBatchResponses(t *testing.T) {
	for name, c := range map[string]struct {
		request      string
		status       int
		want         string // the response's body, or a part of it
		applied      string // Preference-Applied
		stored       string // separated by spaces
		wantRejected string // as fmt prints it
	}{
		"array":                  {post(` [ {"a":1} , {"a":2}] `), 201, `{"accepted":2,"rejected":0}`, "", `{"a":1} {"a":2}`, "map[]"},
		"NDJSON":                 {post("{\"a\":1}\n{\"a\":2}\n", ndjsonHeader), 201, `{"accepted":2,"rejected":0}`, "", `{"a":1} {"a":2}`, "map[]"},
		"JSON lines":             {post("{\"a\":1}", "Content-Type: application/jsonl"), 201, `{"accepted":1,"rejected":0}`, "", `{"a":1}`, "map[]"},
		"NDJSON, blank and CRLF": {post("\r\n{\"a\":1}\r\n\n  \n\t{\"a\":2} \r\n", "content-type: application/x-ndjson; charset=utf-8"), 201, `{"accepted":2,"rejected":0}`, "", `{"a":1} {"a":2}`, "map[]"},
		"breaks between tokens":  {post("[\n{\"a\":\r\n1},{\"b\":\"x y\"\n}]\n"), 201, `{"accepted":2,"rejected":0}`, "", `{"a":1} {"b":"x y"}`, "map[]"},
		"array, some": {
			post(`[{"a":1},7,{"a":1,"a":2},{"a":2},[{}],{"n":1e999}]`), 200,
			`{"accepted":2,"rejected":4,"errors":[{"index":1,"code":"not_an_object","detail":"a JSON value that is not an object begins at byte 9"},` +
				`{"index":2,"code":"duplicate_name","detail":"duplicate member name at byte 18"},` +
				`{"index":4,"code":"not_an_object","detail":"a JSON value that is not an object begins at byte 33"},` +
				`{"index":5,"code":"number_range","detail":"number outside the range that readers support at byte 43"}]}`,
			"", `{"a":1} {"a":2}`, "map[http duplicate_name:1 http not_an_object:2 http number_range:1]",
		},
		"NDJSON, some": {
			post("{\"a\":1}\n\nhello\n{\"a\":2}\n{\"a\":3", ndjsonHeader), 200,
			`{"accepted":2,"rejected":2,"errors":[{"index":2,"code":"invalid_json","detail":"not valid JSON at byte 9"},{"index":4,"code":"invalid_json","detail":"the text ends too soon at byte 29"}]}`,
			"", `{"a":1} {"a":2}`, "map[http invalid_json:2]",
		},
		"too large, some":      {post(`[{"a":"` + strings.Repeat("x", 2000) + `"},{}]`), 200, `{"accepted":1,"rejected":1,"errors":[{"index":0,"code":"too_large","detail":"usage larger than http.max_record (1024) at byte 1"}]}`, "", `{}`, "map[http too_large:1]"},
		"array, syntax error":  {post(`[1,{"a":1}x]`), 400, `"code":"invalid_json","detail":"neither a comma nor the end of the array at byte 10"`, "", "", "map[http invalid_json:1]"},
		"array, all invalid":   {post(`[1,2]`), 400, `"code":"not_an_object","detail":"2 of 2 usages can't be stored, so nothing was stored; the first fault: a JSON value that is not an object begins at byte 1","accepted":0,"rejected":2,"errors":[{"index":0,`, "", "", "map[http not_an_object:2]"},
		"empty array":          {post(` [ ] `), 400, `"code":"empty"`, "", "", "map[http empty:1]"},
		"blank NDJSON":         {post("\n\n", ndjsonHeader), 400, `"code":"empty"`, "", "", "map[http empty:1]"},
		"comma at the end":     {post(`[{},]`), 400, `"code":"invalid_json","detail":"not valid JSON: a comma before the end at byte 4"`, "", "", "map[http invalid_json:1]"},
		"comma first":          {post(`[,{}]`), 400, `at byte 1"`, "", "", "map[http invalid_json:1]"},
		"unfinished":           {post(`[{}`), 400, `the text ends too soon at byte 3"`, "", "", "map[http invalid_json:1]"},
		"text after the array": {post(`[{}]]`), 400, `something follows the JSON array at byte 4"`, "", "", "map[http invalid_json:1]"},
		"syntax error inside":  {post(`[{},{"a":1,"a":2,},{}]`), 400, `"code":"invalid_json","detail":"not valid JSON: a comma before the end at byte 17"`, "", "", "map[http invalid_json:1]"},
		"maximum":              {post("[" + strings.Repeat("{},", 2999) + "{}]"), 201, `{"accepted":3000,"rejected":0}`, "", strings.Repeat("{} ", 2999) + "{}", "map[]"},
		"too many":             {post("[" + strings.Repeat("{},", 3000) + "{}]"), 413, `"code":"too_large","detail":"more usages than http.max_records (3000) at byte 9001"`, "", "", "map[http too_large:1]"},
		"too many lines":       {post(strings.Repeat("{}\n", 3001), ndjsonHeader), 413, `(3000) at byte 9000"`, "", "", "map[http too_large:1]"},

		"strict, all":  {post(`[{"a":1}]`, strictHeader), 201, `{"accepted":1,"rejected":0}`, "handling=strict", `{"a":1}`, "map[]"},
		"strict, some": {post(`[{"a":1},2,{"a":3}]`, strictHeader), 400, `"code":"not_an_object","detail":"1 of 3 usages can't be stored, so nothing was stored; the first fault: a JSON value that is not an object begins at byte 9","accepted":0,"rejected":3`, "handling=strict", "", "map[http not_an_object:1 http strict:2]"},
		"lenient":      {post(`[{"a":1},2]`, `Prefer: wait=10, Handling="lenient"; x=y, handling=strict`), 200, `{"accepted":1,"rejected":1,`, "", `{"a":1}`, "map[http not_an_object:1]"},
		"ids":          {post(`[{"a":1},2,{"a":3}]`, idsHeader, "Prefer: x"), 200, `"ids":["` + nthID(1) + `",null,"` + nthID(2) + `"]}`, "return=representation", `{"a":1} {"a":3}`, "map[http not_an_object:1]"},
		"ids, lines":   {post("{\"a\":1}\n\n2\n", idsHeader, ndjsonHeader), 200, `"ids":["` + nthID(1) + `",null]}`, "return=representation", `{"a":1}`, "map[http not_an_object:1]"},
		"both":         {post(`[{}]`, `Prefer: foo="a,handling=lenient\"", return = "representation" ;q=1 ,HANDLING=Strict`), 201, `{"accepted":1,"rejected":0,"ids":["` + nthID(1) + `"]}`, "handling=strict, return=representation", `{}`, "map[]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newMemoryLog()
			_, addr := startServer(t, log, Options{Limits: Limits{MaxRecord: 1 << 10}, MaxRecords: 3000})
			responses, bodies := sendRaw(t, addr, c.request, 1)
			if len(responses) == 0 {
				t.Fatal("no response")
			}
			if got := bodies[0]; responses[0].StatusCode != c.status || got != c.want && (c.status < 300 && strings.HasPrefix(c.want, "{") && strings.HasSuffix(c.want, "}") || !strings.Contains(got, c.want)) {
				t.Errorf("%s: %s", responses[0].Status, got)
			}
			if !json.Valid([]byte(bodies[0])) {
				t.Errorf("the response is not JSON: %s", bodies[0])
			}
			if got := responses[0].Header.Get("Preference-Applied"); got != c.applied {
				t.Errorf("Preference-Applied is %q, want %q", got, c.applied)
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			if got := strings.Join(log.usages, " "); got != c.stored {
				t.Errorf("stored %.200s, want %.200s", got, c.stored)
			}
			if got := fmt.Sprint(log.rejected); got != c.wantRejected {
				t.Errorf("rejected %s, want %s", got, c.wantRejected)
			}
			if want := min(1, len(log.usages)); log.appends != want {
				t.Errorf("%d appends, want %d", log.appends, want)
			}
		})
	}
}

func TestResponsesListTheFirstHundredErrors(t *testing.T) {
	for n, truncated := range map[int]bool{100: false, 101: true} {
		log := newMemoryLog()
		_, addr := startServer(t, log, Options{})
		_, bodies := sendRaw(t, addr, post("{}\n"+strings.Repeat("[]\n", n), ndjsonHeader), 1)
		var a struct {
			Accepted, Rejected int
			Errors             []struct{ Index int }
			Truncated          bool `json:"errors_truncated"`
		}
		if err := json.Unmarshal([]byte(bodies[0]), &a); err != nil {
			t.Fatal(err)
		}
		if a.Accepted != 1 || a.Rejected != n || len(a.Errors) != 100 || a.Errors[99].Index != 100 || a.Truncated != truncated {
			t.Errorf("%d errors: %.100s", n, bodies[0])
		}
		if !maps.Equal(log.rejected, map[string]int{"http not_an_object": n}) {
			t.Errorf("rejected %v", log.rejected)
		}
	}
}

// The pages of a large body are freed as the log copies it, and not earlier.
func TestALargeBatchIsStoredAsSent(t *testing.T) {
	log := newMemoryLog()
	_, addr := startServer(t, log, Options{})
	var usages []string
	for size := 0; size < 3<<20; size += len(usages[len(usages)-1]) {
		usages = append(usages, fmt.Sprintf(`{"n":%d,"text":%q}`, len(usages), strings.Repeat(string(rune('a'+len(usages)%26)), len(usages)%7000)))
	}
	responses, bodies := sendRaw(t, addr, post("["+strings.Join(usages, ",")+"]"), 1)
	if len(responses) != 1 || responses[0].StatusCode != http.StatusCreated {
		t.Fatal(bodies)
	}
	if len(log.usages) != len(usages) {
		t.Fatalf("%d of %d usages are stored", len(log.usages), len(usages))
	}
	for i, sent := range usages {
		if log.usages[i] != sent {
			t.Fatalf("usage %d of %d differs: %d bytes stored, %d sent", i, len(usages), len(log.usages[i]), len(sent))
		}
	}
}

func TestAllIDsOfALargeBatchAreReturned(t *testing.T) {
	log := newMemoryLog()
	h, addr := startServer(t, log, Options{})
	before := h.inFlight.free
	responses, bodies := sendRaw(t, addr, post("["+strings.Repeat("{},", 9999)+"{}]", idsHeader), 1)
	var a struct{ IDs []string }
	if err := json.Unmarshal([]byte(bodies[0]), &a); err != nil || responses[0].StatusCode != http.StatusCreated || len(a.IDs) != 10000 || a.IDs[9999] != log.ids[9999].String() {
		t.Errorf("%v: %s: %d ids", err, responses[0].Status, len(a.IDs))
	}
	waitFor(t, func() bool {
		h.inFlight.mu.Lock()
		defer h.inFlight.mu.Unlock()
		return h.inFlight.free == before
	})
}
