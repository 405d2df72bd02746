package main

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/udpserver"
	"collectord/collectord/usage"
	"collectord/shipper/bucket"
)

// momentaryFor is how long a trouble without a line for its end stays open after its
// last failure.
const momentaryFor = 15 * time.Minute

// troubleKind describes how a trouble ends, and who can cause it.
type troubleKind int

const (
	lasting   troubleKind = iota // until a line reports its end
	momentary                    // no line reports its end

	// Any client that may send can cause these, so they do not change the verdict.
	lastingByClients
	momentaryByClients
)

func (k troubleKind) isMomentary() bool { return k == momentary || k == momentaryByClients }
func (k troubleKind) isByClients() bool { return k == momentaryByClients || k == lastingByClients }

// troubleKinds contains all troubles that the daemon logs, by name. A test compares it
// with the source.
var troubleKinds = map[string]troubleKind{ //nolint:gochecknoglobals // a constant table
	// Log
	"commit": lasting, "full": lasting, "start": lasting, "prepare": lasting, "seal": lasting, "removal": lasting,
	"make_room": lasting, "keep": lasting, "evicted": momentary, "late_sync": momentary, "names": momentary,
	"loss_note": momentary, "trim": momentary, "close": momentary,
	// Shipping
	"shipping": lasting, "segment": lasting, "heartbeat": lasting, "clone": lasting, "last look": lasting,
	"lost by the storage": lasting, "vanished": lasting, "storage_check": lasting,
	"conflict": momentary, "damaged": momentary, "too_large": momentary,
	// Servers
	"accept": lasting, "udp_read": lasting, "udp_overloaded": lasting, "udp_kernel_drops": lasting,
	"event_loop": momentary, "body_memory": momentary, "internal": momentary,
	"connections": lastingByClients, "handshake": momentaryByClients, "unauthorized": momentaryByClients, "cross_site": momentaryByClients,
	// Process
	"notify": momentary, "group_memory": lasting, "watchdog": momentary, "clock": lasting,
}

// kindOf returns the kind of a trouble. The reasons for rejected datagrams are troubles
// caused by clients.
func kindOf(name string) troubleKind {
	kind, known := troubleKinds[name]
	if !known && strings.HasPrefix(name, "udp_") {
		return lastingByClients
	}
	return kind
}

// isOld reports whether a momentary trouble has not occurred for momentaryFor.
func (t *trouble) isOld(now time.Time) bool {
	return t.kind.isMomentary() && now.Sub(t.last.Time) > momentaryFor
}

// openTroubles returns the open troubles, sorted by their beginning, the oldest first.
func (h *troubleHandler) openTroubles() []admin.Trouble {
	now := time.Now()
	h.troubles.mu.Lock()
	defer h.troubles.mu.Unlock()
	var all []admin.Trouble
	for name, t := range h.troubles.byName {
		if t.open && !t.isOld(now) {
			all = append(all, t.status(name))
		}
	}
	slices.SortFunc(all, func(a, b admin.Trouble) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Name, b.Name))
	})
	return all
}

// states reports for each possible trouble whether it is open.
func (h *troubleHandler) states() map[string]bool {
	byName := map[string]bool{}
	for name := range troubleKinds {
		byName[name] = false
	}
	for _, reason := range append(usage.Codes(), udpserver.ReasonNotAllowed, udpserver.ReasonTruncated) {
		byName["udp_"+reason] = false
	}
	for _, t := range h.openTroubles() {
		byName[t.Name] = true
	}
	return byName
}

// status returns the trouble in the form of the status.
func (t *trouble) status(name string) admin.Trouble {
	l := admin.Trouble{
		Name: name, Verdict: admin.Warning, Since: t.since, Last: t.last.Time, Times: t.count, Momentary: t.kind.isMomentary(),
	}
	switch {
	case t.kind.isByClients():
		l.Verdict = admin.Fine
	case t.last.Level >= slog.LevelError:
		l.Verdict = admin.Failing
	}
	l.Message, l.Advice = adviceIn(t.last.Message)
	t.last.Attrs(func(a slog.Attr) bool {
		switch err, isError := a.Value.Any().(error); {
		case a.Key == "advice":
			l.Advice = cmp.Or(a.Value.String(), l.Advice)
		case a.Key != "error":
		case isError:
			f := bucket.FailureOf(err)
			l.Error, l.Advice = f.Text, cmp.Or(f.Hint, l.Advice)
		default:
			l.Error = a.Value.String()
		}
		return true
	})
	if l.Verdict != admin.Fine {
		l.Advice = cmp.Or(l.Advice, defaultAdvice(name))
	}
	return l
}

// defaultAdvice is the advice for a trouble whose line has none.
func defaultAdvice(name string) string {
	switch name {
	case "start", "commit", "prepare", "seal", "removal", "make_room", "late_sync", "names", "loss_note", "trim", "close":
		return "see to the disk of data_dir: its room, its mount and its errors (dmesg); collectord doctor measures it"
	}
	return "run collectord doctor, which checks what the daemon needs"
}

// adviceIn splits a message of the form "what happened: why (what to do)" into the text
// before the parentheses and the advice in them.
func adviceIn(message string) (what, advice string) {
	if !strings.HasSuffix(message, ")") {
		return message, ""
	}
	depth := 0
	for i := len(message) - 1; i > 0; i-- {
		switch message[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 {
				return strings.TrimSuffix(message[:i], " "), message[i+1 : len(message)-1]
			}
		}
	}
	return message, ""
}
