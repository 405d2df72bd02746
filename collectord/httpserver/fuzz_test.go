package httpserver

import (
	"bytes"
	"slices"
	"testing"

	"collectord/collectord/usage"
	"collectord/wal"
)

// FuzzBody decodes and splits single usages, arrays and NDJSON in each coding. The records
// must equal the usages that a Splitter finds.
func FuzzBody(f *testing.F) {
	for form := range byte(6) {
		f.Add([]byte(`[{"a":1},{"b":`+"\n"+`2},3,{"c":1,"c":1},{"d":1e999}]`), form)
		f.Add([]byte("{\"a\":1}\n\n{\"b\":2}\r\n[]\n{\"a\":"), form)
		f.Add([]byte(`[{},{"a":1,"a":2,},{}]`), form)
	}
	codings := []string{"", "gzip", "zstd"}
	h := newServer(f, newMemoryLog(), Options{Limits: Limits{MaxRecord: 1 << 10}})
	f.Fuzz(func(t *testing.T, text []byte, form byte) {
		begins := header{content: mediaType(form & 1 * byte(linesContent)), coding: coding(form / 2 % 3)}
		begins.prefer.ids = true
		r := requestAfterOther(h, begins)
		defer h.release(r)
		if r.coding == identity {
			r.rawBody = append(r.rawBody, text...)
			_ = h.decode(r)
		} else {
			r.rawBody = []byte(compress(t, codings[r.coding], string(text)))
			if p := h.decode(r); p != nil || !bytes.Equal(r.body, text) {
				t.Fatalf("%q became %q: %+v", text, r.body, p)
			}
		}
		r.terms.maxRecord = uint32(h.limits.Load().MaxRecord)
		problem := h.split(r, newIDDeriver("", []byte("k")))
		var recs []wal.Record
		h.eachRecord(r, func(rec *wal.Record) bool {
			recs = append(recs, *rec)
			return true
		})
		var faults []rejectedUsage
		split, _ := formOf(r.content, text)
		var s usage.Splitter
		s.Reset(bytes.Clone(text), split, usage.Limits{MaxUsageBytes: h.limits.Load().MaxRecord, MaxUsages: h.opts.MaxRecords})
		for s.Next() {
			v := s.Value
			if v.Fault.Code != "" {
				if len(faults) < maxErrors {
					faults = append(faults, rejectedUsage{v.Index, v.Fault})
				}
				continue
			}
			if len(recs) == 0 || !bytes.Equal(recs[0].Usage, v.Usage) || recs[0].ID != newIDDeriver("", []byte("k")).id(v.Index, v.Usage) {
				t.Fatalf("%q: %q is missing in %v", text, v.Usage, recs)
			}
			recs = recs[1:]
		}
		if err := s.Err(); err != nil {
			if problem == nil || problem.code != err.Code || problem.detail != err.Error() {
				t.Fatalf("%q: %+v, want %v", text, problem, err)
			}
			return
		}
		if problem != nil || len(recs) > 0 || !slices.Equal(faults, r.batch.faults) {
			t.Fatalf("%q: %+v, %d records and %v, want %v", text, problem, len(recs), r.batch.faults, faults)
		}
	})
}

// requestAfterOther returns a new request whose memory another client's request has used.
func requestAfterOther(h *Server, begins header) *request {
	r := h.requests.Get().(*request)
	r.begin(&header{content: linesContent, prefer: preferences{ids: true}}, otherClient)
	r.rawBody = append(r.rawBody, `{"another":"client"}`+"\n[]\n{\"other\":1}"...)
	_ = h.decode(r)
	_ = h.split(r, nil)
	h.eachRecord(r, func(*wal.Record) bool { return true })
	h.release(r)
	r = h.requests.Get().(*request)
	r.begin(&begins, "")
	return r
}
