package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"collectord/wal"
)

// withoutBreaks is all that may change in a usage.
func withoutBreaks(b []byte) string {
	return strings.NewReplacer("\r", "", "\n", "").Replace(strings.Trim(string(b), " \t\r\n"))
}

// checkStored looks at a usage as two readers of the bucket would that have
// nothing in common.
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

// FuzzUsage compares with the reference: what is accepted, and with which code
// and offset the rest is refused.
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
		usage, fault := checkOnlyUsage(bytes.Clone(text))
		code, offset := referenceUsage(text)
		switch {
		case fault == nil && code == "":
			checkStored(t, text, usage)
		case fault == nil || fault.code != code || fault.offset != offset:
			t.Errorf("%q: %+v, want %s at %d", text, fault, code, offset)
		}
	})
}

// FuzzDatagram reads a datagram and compares with the reference what is taken
// from it and what is refused.
func FuzzDatagram(f *testing.F) {
	for _, s := range []string{
		"", "\n", `{"a":1}{"b":[2]}` + "\n{\"c\":\n3}", "{\"a\":\n}{\"a\":1}\n{\"b\":2}", "[\n[\n1]\n]\n{}", "{\n{\n{\n", "\ufeff{}\n{}",
		"{\"a\":1,\"a\":2}\n{}", "{\"\\u0061\":1,\n\"a\":2}\n{}", "{\"a\":\"\xff\n\"}\n{}", "{\"a\":1e999}{}\n{}", `{"long":"` + strings.Repeat("x", 60) + "\"}{}\n{}",
		strings.Repeat(`{"a":`, 65) + "\n{}", strings.Repeat("[", 70) + strings.Repeat("]\n", 70) + "{}", "tru\n{}", `{"a":"\ud800` + "\n{}", "\x00{}\n{}",
	} {
		f.Add([]byte(s))
	}
	const maxRecord = 60
	f.Fuzz(func(t *testing.T, text []byte) {
		usages, codes := referenceDatagram(text, maxRecord)
		r := &udpReader{}
		r.split(bytes.Clone(text), maxRecord)
		if len(r.recs) != len(usages) {
			t.Fatalf("%q: %d usages, want %d", text, len(r.recs), len(usages))
		}
		for i, sent := range usages {
			checkStored(t, sent, r.recs[i].Usage)
		}
		refused := map[string]int{}
		for _, why := range r.why {
			refused[why.code] = why.n
		}
		for _, code := range codes {
			if refused[code]--; refused[code] == 0 {
				delete(refused, code)
			}
		}
		if len(refused) > 0 {
			t.Fatalf("%q: refused %v, want %v", text, r.why, codes)
		}
	})
}

// FuzzBody sends single usages, arrays and NDJSON through the codings and takes
// them apart again.
func FuzzBody(f *testing.F) {
	for form := range byte(6) {
		f.Add([]byte(`[{"a":1},{"b":`+"\n"+`2},3,{"c":1,"c":1},{"d":1e999}]`), form)
		f.Add([]byte("{\"a\":1}\n\n{\"b\":2}\r\n[]\n{\"a\":"), form)
		f.Add([]byte(`[{},{"a":1,"a":2,},{}]`), form)
	}
	codings := []string{"", "gzip", "zstd"}
	h := newServer(f, newMemoryLog(), HTTPOptions{Limits: HTTPLimits{MaxRecord: 1 << 10}})
	f.Fuzz(func(t *testing.T, text []byte, form byte) {
		asked := header{lines: form&1 == 1, coding: coding(form / 2 % 3)}
		asked.prefer.ids = true
		r := afterAnother(h, asked)
		defer h.release(r)
		if r.header.coding == identity {
			r.body = append(r.body, text...)
		} else {
			r.sent = []byte(compress(t, codings[r.header.coding], string(text)))
			if p := h.decode(r); p != nil || !bytes.Equal(r.body, text) {
				t.Fatalf("%q became %q: %+v", text, r.body, p)
			}
		}
		problem := h.split(r, newIDDeriver("", []byte("k")))

		// What should be there, in order.
		type value struct {
			index, start, end int
		}
		var values []value
		trimmed := strings.TrimLeft(string(text), " \t\r\n")
		array := !r.header.lines && strings.HasPrefix(trimmed, "[")
		switch {
		case r.header.lines:
			at := 0
			for i, line := range strings.Split(string(text), "\n") {
				if strings.Trim(line, " \t\r") != "" {
					values = append(values, value{i, at, at + len(line)})
				}
				at += len(line) + 1
			}
		case array:
			elements, code, offset := referenceArray(text)
			if code != "" {
				if problem == nil || problem.code != code || !strings.HasSuffix(problem.detail, fmt.Sprintf(" at byte %d", offset)) {
					t.Fatalf("%q: %+v, want %s at %d", text, problem, code, offset)
				}
				return
			}
			for i, e := range elements {
				values = append(values, value{i, e[0], e[1]})
			}
		default:
			values = []value{{0, 0, len(text)}}
		}
		if len(values) == 0 {
			if problem == nil || problem.code != CodeEmpty {
				t.Fatalf("%q: %+v", text, problem)
			}
			return
		}
		if problem != nil && (r.header.lines || array) {
			t.Fatalf("%q: %+v", text, problem)
		}
		var recs []wal.Record
		h.eachRecord(r, func(rec *wal.Record) bool {
			recs = append(recs, *rec)
			return true
		})
		faults := r.batch.faults
		for _, v := range values {
			sent := text[v.start:v.end]
			code, offset := referenceUsage(sent)
			offset += v.start
			if code == "" && len(withoutBreaks(sent)) > h.limits.Load().MaxRecord {
				code, offset = CodeTooLarge, v.start+skipSpace(sent, 0)
			}
			if code == "" {
				if len(recs) == 0 {
					t.Fatalf("%q is missing", sent)
				}
				checkStored(t, sent, recs[0].Usage)
				if want := newIDDeriver("", []byte("k")).id(v.index, recs[0].Usage); recs[0].ID != want {
					t.Fatalf("id %s, want %s", recs[0].ID, want)
				}
				recs = recs[1:]
				continue
			}
			if !r.header.lines && !array {
				if problem == nil || problem.code != code || !strings.HasSuffix(problem.detail, fmt.Sprintf(" at byte %d", offset)) {
					t.Fatalf("%q: %+v, want %s at %d", text, problem, code, offset)
				}
				return
			}
			if len(r.batch.faults) == maxErrors {
				return
			}
			if len(faults) == 0 || faults[0].index != v.index || faults[0].fault.code != code || faults[0].fault.offset != offset {
				t.Fatalf("%q: %+v, want %s at %d", text, faults, code, offset)
			}
			faults = faults[1:]
		}
		if len(recs) > 0 || len(faults) > 0 {
			t.Fatalf("%q: %d records and %v too many", text, len(recs), faults)
		}
	})
}

// afterAnother returns a request as it begins, which was that of another client
// before.
func afterAnother(h *HTTP, asked header) *request {
	r := h.requests.Get().(*request)
	r.begin(header{client: another, lines: true, prefer: preferences{ids: true}})
	r.body = append(r.body, `{"another":"client"}`+"\n[]\n{\"other\":1}"...)
	_ = h.split(r, nil)
	h.eachRecord(r, func(*wal.Record) bool { return true })
	h.release(r)
	r = h.requests.Get().(*request)
	r.begin(asked)
	return r
}
