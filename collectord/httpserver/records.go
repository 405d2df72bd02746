package httpserver

import "collectord/wal"

// part is where a usage begins in the body, and ends: a tenth of a record.
type part struct{ from, to uint32 }

// What it takes to store a usage, beside its bytes: its part and id here, and what
// the log puts before it in its copy.
const perRecordOverhead = 8 + 16 + 30

// mostStored is what is stored at a time takes: one of the largest requests, or
// many others.
func (o *Options) mostStored() int {
	return max(o.MaxBody, o.MaxDecoded) + o.MaxRecords*perRecordOverhead
}

// makeRoom makes room for n usages of a request, and waits until the log may copy
// them. That does not depend on any client: what is stored has arrived.
func (h *Server) makeRoom(r *request, n int, given bool) {
	if n > freeParts || len(r.body) > freeBytes {
		r.stored = len(r.body) + n*(perRecordOverhead+len(r.header.client))
		if cap(r.body) <= smallBody {
			r.stored += len(r.body) // which stays while its copy is there
		}
		r.stored = min(r.stored, h.opts.mostStored())
		h.storing.wait(r.stored)
	}
	r.parts = h.spareParts.grow(r.parts, n)
	if given || r.header.prefer.ids {
		r.ids = h.spareIDs.grow(r.ids, n)
	}
}

// forgetAfter is how much of a large body is copied before it is forgotten.
const forgetAfter = 1 << 20

// eachRecord goes through the usages of a request as records, and keeps the ids
// that the log gives them if they are asked for. Of a large body it lets go what
// the log has copied, so that it is never there twice.
func (h *Server) eachRecord(r *request, yield func(*wal.Record) bool) {
	forgotten := 0
	wanted := !r.batch.given && (r.batch.single || r.header.prefer.ids)
	for i, p := range r.parts {
		r.record = wal.Record{Usage: r.body[p.from:p.to:p.to], Source: wal.HTTP, Client: r.header.client}
		if r.batch.given {
			r.record.ID = r.ids[i]
		}
		if !yield(&r.record) {
			return
		}
		if r.record.ReceivedAt == 0 {
			continue // it has only been looked at
		}
		if wanted {
			r.ids = append(r.ids, r.record.ID)
		}
		if int(p.to)-forgotten >= forgetAfter {
			forgotten = h.largeBodies.forgetUpTo(r.body, forgotten, int(p.to))
		}
	}
}
