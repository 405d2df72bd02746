package ingest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWhatWouldSpoilAnObjectIsRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	for _, c := range []struct {
		name, text, code string
		offset           int
	}{
		{"plain", `{"a":1}`, "", 0},
		{"white space around", " \r\n\t{\"a\":1}\n ", "", 0},
		{"null character, noncharacter and pair", `{"a":"\u0000\ufffe\ud83d\ude00"}`, "", 0},
		{"largest integers", `{"a":18446744073709551615,"b":-9223372036854775808}`, "", 0},
		{"largest number", `{"a":1.7976931348623157e308,"b":1e-400}`, "", 0},
		{"depth 64", deep(64), "", 0},
		{"same name in another object", `{"a":{"a":1},"b":[{"a":1},{"a":1}]}`, "", 0},
		{"nothing", "", CodeEmpty, 0},
		{"only white space", " \n ", CodeEmpty, 3},
		{"array", ` [{"a":1}]`, CodeNotAnObject, 1},
		{"string", `"a"`, CodeNotAnObject, 0},
		{"null", `null`, CodeNotAnObject, 0},
		{"no JSON", `hello`, CodeInvalidJSON, 0},
		{"unfinished", `{"a":1`, CodeInvalidJSON, 6},
		{"comma at the end", `{"a":1,}`, CodeInvalidJSON, 7},
		{"single quotes", `{'a':1}`, CodeInvalidJSON, 1},
		{"raw line break in a string", "{\"a\":\"x\ny\"}", CodeInvalidJSON, 7},
		{"leading zero", `{"a":01}`, CodeInvalidJSON, 6},
		{"something behind", `{"a":1} x`, CodeInvalidJSON, 8},
		{"two objects", `{"a":1}{"b":2}`, CodeInvalidJSON, 7},
		{"byte order mark", "\xef\xbb\xbf{}", CodeInvalidJSON, 0},
		{"duplicate name", `{"a":1,"a":2}`, CodeDuplicateName, 7},
		{"duplicate name, escaped", `{"a":1,"\u0061":2}`, CodeDuplicateName, 7},
		{"bad UTF-8", "{\"a\":\"\xff\"}", CodeInvalidUTF8, 6},
		{"surrogate in UTF-8", "{\"a\":\"\xed\xa0\x80\"}", CodeInvalidUTF8, 6},
		{"lone surrogate", `{"a":"\ud800"}`, CodeInvalidUTF8, 6},
		{"lone low surrogate", `{"a":"\udc00x"}`, CodeInvalidUTF8, 6},
		{"depth 65", deep(65), CodeTooDeep, 64 * 5},
		{"integer too large", `{"a":18446744073709551616}`, CodeNumberRange, 5},
		{"integer too small", `{"a":-9223372036854775809}`, CodeNumberRange, 5},
		{"number not finite", `{"a":1e309}`, CodeNumberRange, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			usage, fault := checkOnlyUsage([]byte(c.text))
			if c.code == "" {
				if fault != nil || string(usage) != strings.Trim(c.text, " \r\n\t") {
					t.Errorf("%v, %s", fault, usage)
				}
				return
			}
			if fault == nil || fault.code != c.code || fault.offset != c.offset {
				t.Errorf("%+v, want %s at %d", fault, c.code, c.offset)
			}
		})
	}
}

func TestLineBreaksBetweenTokensAreRemoved(t *testing.T) {
	usage, fault := checkOnlyUsage([]byte("{\r\n  \"a\" :\n [1,\n2 ] , \"b\":\"\\n\"\n}\n"))
	if fault != nil || string(usage) != `{  "a" : [1,2 ] , "b":"\n"}` {
		t.Errorf("%v, %s", fault, usage)
	}
}

func FuzzUsage(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,"x\u00e9"]}`, `{"a":{"a":{}}}`, "{\"a\":\n1}", `{"a":"\ud83d\ude00"}`, `{"a":1e309}`, `[1`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		usage, fault := checkOnlyUsage(bytes.Clone(text))
		if fault != nil {
			if fault.offset < 0 || fault.offset > len(text) || fault.code == "" {
				t.Errorf("%+v of %d bytes", fault, len(text))
			}
			return
		}
		var want, got map[string]any
		if !json.Valid(usage) || !utf8.Valid(usage) || bytes.ContainsAny(usage, "\r\n") {
			t.Fatalf("accepted %q", usage)
		}
		decode := func(b []byte, to *map[string]any) {
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber() // digits included
			if err := d.Decode(to); err != nil {
				t.Fatalf("accepted %q: %v", b, err)
			}
		}
		decode(text, &want)
		decode(usage, &got)
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if !bytes.Equal(a, b) {
			t.Errorf("%q became %q", text, usage)
		}
	})
}
