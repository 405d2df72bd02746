package usage

import (
	"fmt"
	"strings"
	"testing"
)

func TestInvalidUsagesAreRejected(t *testing.T) {
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
		{"not JSON", `hello`, CodeInvalidJSON, 0},
		{"unfinished", `{"a":1`, CodeInvalidJSON, 6},
		{"comma at the end", `{"a":1,}`, CodeInvalidJSON, 7},
		{"single quotes", `{'a':1}`, CodeInvalidJSON, 1},
		{"raw line break in a string", "{\"a\":\"x\ny\"}", CodeInvalidJSON, 7},
		{"leading zero", `{"a":01}`, CodeInvalidJSON, 6},
		{"something after the object", `{"a":1} x`, CodeInvalidJSON, 8},
		{"two objects", `{"a":1}{"b":2}`, CodeInvalidJSON, 7},
		{"two byte order marks", "\ufeff\ufeff{}", CodeInvalidJSON, 3},
		{"byte order mark, not first", " \ufeff{}", CodeInvalidJSON, 1},
		{"byte order mark at the end", "{}\ufeff", CodeInvalidJSON, 2},
		{"only a byte order mark", "\ufeff", CodeEmpty, 3},
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
		{"number, then not JSON", `{"a":1e309 x`, CodeNumberRange, 5},
		{"large, and not a number", `{"a":99999999999999999999-1}`, CodeInvalidJSON, 25},
		{"not JSON, then a number", `{"a":x,"b":1e309}`, CodeInvalidJSON, 5},
		{"number, then a duplicate", `{"a":1e309,"a":1}`, CodeNumberRange, 5},
		{"duplicate, then a number", `{"a":1,"a":1e309}`, CodeDuplicateName, 7},
		{"duplicate, then not JSON", `{"a":1,"a":1,}`, CodeDuplicateName, 7},
		{"unfinished escape", `{"a":"\u12`, CodeInvalidJSON, 10},
		{"invalid escape", `{"a":"x\q"}`, CodeInvalidJSON, 7},
		{"unfinished character", "{\"a\":\"\xe2\x82", CodeInvalidJSON, 8},
		{"character cut off", "{\"a\":\"x\xe2\x82\"}", CodeInvalidUTF8, 7},
		{"bad UTF-8 between tokens", "{\"a\":\xff}", CodeInvalidUTF8, 5},
		{"surrogate between tokens", `{"a":\ud800}`, CodeInvalidJSON, 5},
		{"literal", `{"a":nul}`, CodeInvalidJSON, 8},
		{"array with bad UTF-8", "[\"\xff\"]", CodeNotAnObject, 0},
		{"broken array", "[1,}", CodeInvalidJSON, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			usage, fault := Check([]byte(c.text))
			if c.code == "" {
				if fault != nil || string(usage) != strings.Trim(c.text, " \r\n\t") {
					t.Errorf("%v, %s", fault, usage)
				}
				return
			}
			if fault == nil || fault.Code != c.code || fault.Offset != c.offset {
				t.Errorf("%+v, want %s at %d", fault, c.code, c.offset)
			}
		})
	}
}

func TestLineBreaksBetweenTokensAreRemoved(t *testing.T) {
	usage, fault := Check([]byte("{\r\n  \"a\" :\n [1,\n2 ] , \"b\":\"\\n\"\n}\n"))
	if fault != nil || string(usage) != `{  "a" : [1,2 ] , "b":"\n"}` {
		t.Errorf("%v, %s", fault, usage)
	}
}

func TestOneByteOrderMarkAtTheFirstByteIsSkipped(t *testing.T) {
	for text, want := range map[string]struct {
		form   Form
		usages string // the valid ones
		faults string // codes with offsets
	}{
		"\ufeff{\"a\":1}":                 {Object, `{"a":1}`, ""},
		"\ufeff[{\"a\":1},{\"b\":x}]":     {Array, "", "invalid_json at 17"},
		"\ufeff [{\"a\":1}]":              {Array, `{"a":1}`, ""},
		"\ufeff{\"a\":1}\r\n\ufeff{}\n{}": {Lines, `{"a":1} {}`, "invalid_json at 12"},
		"\ufeff{}{} \n\ufeff{}":           {Datagram, `{} {}`, "invalid_json at 9"},
		"\ufeff\ufeff{}\n{}":              {Datagram, `{}`, "invalid_json at 3"},
	} {
		if want.form < Lines && FormOf([]byte(text)) != want.form {
			t.Errorf("%q has the form %d, want %d", text, FormOf([]byte(text)), want.form)
		}
		values, fault := splitAll([]byte(text), want.form, Limits{})
		var usages, faults []string
		for _, v := range values {
			if v.Fault.Code == "" && fault == nil {
				usages = append(usages, string(v.Usage))
			} else if v.Fault.Code != "" {
				faults = append(faults, fmt.Sprintf("%s at %d", v.Fault.Code, v.Fault.Offset))
			}
		}
		if fault != nil {
			faults = append(faults, fmt.Sprintf("%s at %d", fault.Code, fault.Offset))
		}
		if strings.Join(usages, " ") != want.usages || strings.Join(faults, " ") != want.faults {
			t.Errorf("%q: %v, %v", text, usages, faults)
		}
	}
}

func TestAUsageThatIsCutOffTakesNoLineWithItInADatagram(t *testing.T) {
	for cutOff, lost := range map[string]int{
		`{"a":1`: 0, `{"a":1,`: 0, `{`: 0, `{"a"`: 0, `{"a":"x`: 0, `{"a":tru`: 0, `{"a":-`: 0, `{"a":[1`: 0, `{"a":{"b":2}`: 0, `{"a":[{"b":2}]` + "\r": 0, `[1`: 0,
		`{"a":`: 1, `{"a":[`: 1, `{"a":[1,`: 1, // the next usage is taken for the value
	} {
		for _, indent := range []string{"", " \t"} {
			values, _ := splitAll([]byte(cutOff+"\n"+indent+"{\"b\":1}\n"+indent+"{\"b\":2}\n"), Datagram, Limits{})
			usages := 0
			for _, v := range values {
				if v.Fault.Code == "" {
					usages++
				}
			}
			if usages != 2-lost || len(values) != usages+1 {
				t.Errorf("after %q and %q: %d usages of %d values, want %d: %v", cutOff, indent, usages, len(values), 2-lost, values)
			}
		}
	}
}

func TestCommonMistakesHaveTheirReason(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1 , }`:           "a comma before the end at byte 9",
		`{"a":[1,]}`:           "a comma before the end at byte 8",
		`{"a":NaN}`:            "send null for NaN and Infinity at byte 5",
		`{"a":-Infinity}`:      "send null for NaN and Infinity at byte 6",
		`{'a':1}`:              "strings have double quotes at byte 1",
		"{\"a\":1}\n{\"a\":2}": "a second value follows: send NDJSON (Content-Type: application/x-ndjson)",
		`{"a":1}]`:             "something follows the JSON object at byte 7",
		`{}}`:                  "something follows the JSON object at byte 2",
		`{"a":}`:               "not valid JSON at byte 5",
		`{"a":No}`:             "not valid JSON at byte 5",
	} {
		if _, fault := Check([]byte(text)); fault == nil || !strings.Contains(fault.Error(), want) {
			t.Errorf("%s: %v", text, fault)
		}
	}
	if _, fault := splitAll([]byte(`[{},{}, ]`), Array, Limits{}); fault == nil || !strings.Contains(fault.Error(), "a comma before the end at byte 8") {
		t.Error(fault)
	}
}
