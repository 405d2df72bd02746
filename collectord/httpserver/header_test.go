package httpserver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"collectord/collectord/http1"
)

// requestOf returns a POST of usages with these lines in its header.
func requestOf(t *testing.T, lines ...string) *http1.Request {
	t.Helper()
	c := http1.New(8 << 10)
	e, _, _ := c.Next([]byte("POST /api/usages HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, "\r\n"), "\r\n")))
	if e != http1.Header {
		t.Fatalf("%q: %v", lines, c.Fault())
	}
	return c.Request()
}

func TestEachFieldOfAHeaderIsRead(t *testing.T) {
	const bad = "400"
	read := func(t *testing.T, lines ...string) string {
		t.Helper()
		h, p := readHeader(requestOf(t, lines...))
		if p != nil {
			if !p.close {
				t.Errorf("%q: the problem does not close the connection", lines)
			}
			return fmt.Sprint(p.status())
		}
		bearer := ""
		if h.bearer != nil {
			bearer = " bearer=" + string(h.bearer)
		}
		return fmt.Sprintf("%s|%s|%s|%+v|%s %d|%s %d%s", h.contentType, h.encoding, h.key, h.prefer, h.origins.Origin, h.origins.Origins, h.origins.Site, h.origins.Sites, bearer)
	}
	nothing := read(t)
	fields := func(of header) string {
		return fmt.Sprintf("%s|%s|%s|%+v|%s %d|%s %d", of.contentType, of.encoding, of.key, of.prefer, of.origins.Origin, of.origins.Origins, of.origins.Site, of.origins.Sites)
	}
	if nothing != fields(header{}) {
		t.Errorf("without fields: %s", nothing)
	}
	var origin, origins, site, sites header
	origin.origins.Origin, origin.origins.Origins = []byte("a"), 1
	origins.origins.Origin, origins.origins.Origins = []byte("b"), 2
	site.origins.Site, site.origins.Sites = []byte("none"), 1
	sites.origins.Site, sites.origins.Sites = []byte("b"), 2
	for lines, want := range map[string]string{
		"Prefer: handling=strict":                            fields(header{prefer: preferences{strict: true, handlingSeen: true}}),
		"preFer: return=representation":                      fields(header{prefer: preferences{ids: true, returnSeen: true}}),
		"Origin: a":                                          fields(origin),
		"Origin: a\nOrigin: b":                               fields(origins),
		"Sec-Fetch-Site: none":                               fields(site),
		"Sec-Fetch-Site: a\nSec-Fetch-Site: b":               fields(sites),
		"Content-Type: x/y":                                  fields(header{contentType: []byte("x/y")}),
		"Content-Type: x/y\ncontent-type: x/y":               fields(header{contentType: []byte("x/y")}),
		"Content-Type: x\nContent-Type: y":                   bad,
		"Content-Type:x\nContent-Type:y\nX:\nContent-Type:y": bad,
		"Content-Type:\nContent-Type: y":                     bad,
		"Content-Encoding: x":                                fields(header{encoding: []byte("x")}),
		"Content-Encoding: x\nContent-Encoding: x":           fields(header{encoding: []byte("x")}),
		"Content-Encoding: x\nContent-Encoding: y":           bad,
		"Content-Encoding: x\nContent-Type: y":               fields(header{encoding: []byte("x"), contentType: []byte("y")}),
		"Idempotency-Key: k":                                 fields(header{key: []byte("k")}),
		`Idempotency-Key: "k"`:                               fields(header{key: []byte("k")}),
		`Idempotency-Key: "k`:                                fields(header{key: []byte(`"k`)}),
		`Idempotency-Key: "`:                                 fields(header{key: []byte(`"`)}),
		`Idempotency-Key: k"`:                                fields(header{key: []byte(`k"`)}),
		`Idempotency-Key: ""`:                                bad,
		"Idempotency-Key:":                                   bad,
		"Idempotency-Key: a b":                               bad,
		"Idempotency-Key: k\nIdempotency-Key: k":             bad,
		"Authorization: Bearer x":                            nothing + " bearer=x",
		"Authorization: bEARER \t x":                         nothing + " bearer=x",
		"Authorization: Bearer\tx":                           nothing + " bearer=x",
		"Authorization: Bearer":                              nothing + " bearer=",
		"Authorization: Bearerx":                             nothing,
		"Authorization: Bearex x":                            nothing,
		"Authorization: Bear":                                nothing,
		"Authorization: Basic xyz":                           nothing,
		"Authorization: Bearer x\nAuthorization: Bearer x":   bad,
		// Names with the length of a supported field.
		"Prefix: handling=strict": nothing, "Content-Tope: x": nothing, "Authorizatiom: Bearer x": nothing,
		"Sec-Fetch-Mode: x": nothing, "Idempotency-Kez: x": nothing, "Content-Encodimg: x": nothing,
	} {
		if got := read(t, strings.Split(lines, "\n")...); got != want {
			t.Errorf("%q:\n got %s\nwant %s", lines, got, want)
		}
	}
}

func TestPreferencesAreReadAsLists(t *testing.T) {
	for field, want := range map[string]string{
		"":                           "",
		"handling=strict":            "handling=strict",
		`Handling = "STRICT"`:        "handling=strict",
		"return=representation":      "return=representation",
		"return=minimal":             "",
		"handling=lenient":           "",
		"x=strict, y=representation": "",
		"handling=strict;x=y, return=representation;q": "handling=strict, return=representation",
		"return=representation,handling=strict":        "handling=strict, return=representation",
		"handling=lenient, handling=strict":            "", // the first one counts
		"return=minimal, return=representation":        "",
		"handling=strict, handling=lenient":            "handling=strict",
		`x="a, handling=strict"`:                       "",
		`x="a\", handling=strict"`:                     "",
		`x="a\\", handling=strict`:                     "handling=strict",
		`x=a\", handling=strict`:                       "",
		`x=\, handling=strict`:                         "handling=strict",
		`x="a;b", handling=strict`:                     "handling=strict",
		`handling="strict`:                             "",
	} {
		var p preferences
		p.add([]byte(field))
		if got := p.applied(); got != want {
			t.Errorf("%s: %q, want %q", field, got, want)
		}
	}
	for separated, want := range map[string][2]string{
		"a,b": {"a", "b"}, "a": {"a", ""}, "": {}, `"a,b",c`: {`"a,b"`, "c"}, `"\",",a`: {`"\","`, "a"}, `\",",a`: {`\","`, "a"}, `a\,b`: {`a\`, "b"}, `"a`: {`"a`, ""},
	} {
		if before, after := cutOutsideQuotes([]byte(separated), ','); string(before) != want[0] || string(after) != want[1] {
			t.Errorf("%s: %q and %q", separated, before, after)
		}
	}
	for quoted, want := range map[string]string{`"a"`: "a", `""`: "", `"`: `"`, `"a`: `"a`, `a"`: `a"`, "a": "a", "": ""} {
		if got := string(unquote([]byte(quoted))); got != want {
			t.Errorf("%s: %q", quoted, got)
		}
	}
}

func TestTheHeaderIsCheckedBeforeTheBody(t *testing.T) {
	h := newServer(t, newMemoryLog(), Options{MaxBody: 1000})
	for encoding, want := range map[string]coding{"": identity, "identity": identity, "IDENTITY": identity, "gzip": gzipped, "X-gzip": gzipped, "zstd": zstandard} {
		r := header{encoding: []byte(encoding)}
		if p := h.checkBody(&r, 1000); p != nil || r.coding != want {
			t.Errorf("%q: %d, %+v", encoding, r.coding, p)
		}
		if p := h.checkBody(&r, 1001); p == nil || p.status() != http.StatusRequestEntityTooLarge {
			t.Errorf("%q, too large: %+v", encoding, p)
		}
		if p := h.checkBody(&r, -1); p != nil {
			t.Errorf("%q, in chunks: %+v", encoding, p)
		}
	}
	for _, encoding := range []string{"br", "gzip, zstd", "identity, gzip", "zstdx"} {
		if p := h.checkBody(&header{encoding: []byte(encoding)}, 2); p == nil || p.code != CodeEncoding {
			t.Errorf("%q: %+v", encoding, p)
		}
	}
}
