package usage

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// withoutBreaks makes the only change that a usage may undergo: it removes white space at
// the ends, and line breaks.
func withoutBreaks(b []byte) string {
	return strings.NewReplacer("\r", "", "\n", "").Replace(strings.Trim(string(b), " \t\r\n"))
}

// checkStored checks that two independent JSON readers accept a stored usage, and that it
// has the same value as sent.
func checkStored(t *testing.T, sent, stored []byte) {
	t.Helper()
	if bytes.ContainsAny(stored, "\r\n") || string(stored) != withoutBreaks(sent) {
		t.Fatalf("%q became %q", sent, stored)
	}
	line := []byte(`{"usage":` + string(stored) + "}\n")
	decode := func(b []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber() // digits included
		if err := d.Decode(&v); err != nil {
			t.Fatalf("accepted %q: %v", b, err)
		}
		return v
	}
	if got, want := decode(line), map[string]any{"usage": decode(sent)}; !reflect.DeepEqual(got, want) {
		t.Fatalf("%q became %q", sent, stored)
	}
	d := jsontext.NewDecoder(bytes.NewReader(line))
	for token, err := d.ReadToken(); d.StackDepth() > 0 || err != nil; token, err = d.ReadToken() {
		if err != nil {
			t.Fatalf("accepted %q: %v before %v", stored, err, token)
		}
	}
}

// FuzzUsage compares Check with the reference: which texts are accepted, and the code and
// offset of the faults in others.
func FuzzUsage(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5e3,"x\u00e9"]}`, `{"a":{"a":{}}}`, "{\"a\":\n1}", `{"a":"\ud83d\ude00"}`, `{"a":1e309}`, `[1`, "\xff", `{"a":1,"a":2}`,
		`{"a":"\ud800"}`, `{"a":"\ud800\u0041"}`, "{\"a\":\"\xe2\x82", `{"a":nul}`, `{"a":-}`, `{"a":18446744073709551616}`, `{"a":"\`, `{"a":0.0e-99999999999}`,
		strings.Repeat(`{"a":`, 65), "\ufeff{}", `["\ud800",1]`, `{"a":99999999999999999999-`, `{"a":1e7000000000}`, `{"a":0.000179769313486231580793e312}`,
		`{"a":179769313486231570814527423731704356798070e267}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		usage, fault := Check(bytes.Clone(text))
		text, marked := bytes.CutPrefix(text, []byte("\ufeff"))
		code, offset := referenceUsage(text, 0)
		if marked {
			offset += len("\ufeff")
		}
		switch {
		case fault == nil && code == "":
			checkStored(t, text, usage)
		case fault == nil || fault.Code != code || fault.Offset != offset:
			t.Errorf("%q: %+v, want %s at %d", text, fault, code, offset)
		}
	})
}

// splitAll returns all values that a Splitter finds, and the fault of the text.
func splitAll(text []byte, form Form, limits Limits) (all []Value, fault *Error) {
	var s Splitter
	s.Reset(bytes.Clone(text), form, limits)
	for s.Next() {
		all = append(all, s.Value)
	}
	return all, s.Err()
}

// FuzzDatagram compares the accepted and rejected values of a datagram with the reference.
func FuzzDatagram(f *testing.F) {
	for _, s := range []string{
		"", "\n", `{"a":1}{"b":[2]}` + "\n{\"c\":\n3}", "{\"a\":\n}{\"a\":1}\n{\"b\":2}", "[\n[\n1]\n]\n{}", "{\n{\n{\n", "\ufeff{}\n{}", "\ufeff\ufeff{}", "{}\n\ufeff{}", "\ufeff",
		"{\"a\":1,\"a\":2}\n{}", "{\"\\u0061\":1,\n\"a\":2}\n{}", "{\"a\":\"\xff\n\"}\n{}", "{\"a\":1e999}{}\n{}", `{"long":"` + strings.Repeat("x", 60) + "\"}{}\n{}",
		strings.Repeat(`{"a":`, 65) + "\n{}", strings.Repeat("[", 70) + strings.Repeat("]\n", 70) + "{}", "tru\n{}", "{\"a\":1\n{}\n{}", "{\"a\":\n{}\n{}\n{}", "[1,\r\n{}\n{}", `{"a":"\ud800` + "\n{}", "\x00{}\n{}",
	} {
		f.Add([]byte(s))
	}
	const maxRecord = 60
	f.Fuzz(func(t *testing.T, text []byte) {
		want := referenceDatagram(text, maxRecord)
		got, fault := splitAll(text, Datagram, Limits{MaxUsageBytes: maxRecord})
		if fault != nil || len(got) != len(want) {
			t.Fatalf("%q: %d values, want %d, %+v", text, len(got), len(want), fault)
		}
		for i, v := range got {
			compareValue(t, text, v, want[i])
		}
	})
}

// FuzzSplit compares the values of single usages, arrays and NDJSON with the reference.
func FuzzSplit(f *testing.F) {
	for form := range byte(2) {
		f.Add([]byte(`[{"a":1},{"b":`+"\n"+`2},3,{"c":1,"c":1},{"d":1e999}]`), form)
		f.Add([]byte("{\"a\":1}\n\n{\"b\":2}\r\n[]\n{\"a\":"), form)
		f.Add([]byte(`[{},{"a":1,"a":2,},{}]`), form)
		f.Add([]byte(`{"a":"`+strings.Repeat("x", 60)+`"}`), form)
		f.Add([]byte("\ufeff[{},]"), form)
		f.Add([]byte("\ufeff{}\n\ufeff{}\n"), form)
		f.Add([]byte("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}"), form)
	}
	const maxRecord, maxRecords = 60, 8
	f.Fuzz(func(t *testing.T, text []byte, lines byte) {
		form := Lines
		if lines&1 == 0 {
			form = FormOf(text)
		}
		want, fault := referenceSplit(text, form, maxRecord, maxRecords)
		got, err := splitAll(text, form, Limits{MaxUsageBytes: maxRecord, MaxUsages: maxRecords})
		if fault.Code == "" && err != nil || fault.Code != "" && (err == nil || err.Code != fault.Code || err.Offset != fault.Offset) {
			t.Fatalf("%q: %+v, want %+v", text, err, fault)
		}
		if err != nil {
			return // no value is used
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d values, want %d", text, len(got), len(want))
		}
		for i, v := range got {
			compareValue(t, text, v, want[i])
		}
	})
}

// compareValue compares a value with that of the reference.
func compareValue(t *testing.T, text []byte, got Value, want referenceValue) {
	t.Helper()
	if got.Index != want.index || got.Start != want.start || got.Fault.Code != want.code || want.code != "" && got.Fault.Offset != want.offset {
		t.Fatalf("%q: %+v, want %+v", text, got, want)
	}
	if want.code == "" {
		checkStored(t, text[want.start:want.end], got.Usage)
	}
}
