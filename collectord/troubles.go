package main

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"time"

	"collectord/collectord/admin"
	"collectord/shipper/bucket"
)

// momentaryFor is how long a trouble is listed after its last failure if no line says that
// it is over.
const momentaryFor = 15 * time.Minute

// troubleKind is what the log lines of a trouble do not say. A test compares it with the
// source.
type troubleKind struct {
	momentary bool // no line says that it is over
	byClients bool // anybody who can send can cause it: it does not change the verdict
}

// kindOf returns the kind of a trouble. The zero kind lasts until a line says that it is over.
func kindOf(name string) troubleKind {
	switch name {
	case "handshake", "unauthorized", "cross_site":
		return troubleKind{momentary: true, byClients: true}
	case "body_memory", "close", "conflict", "damaged", "event_loop", "evicted", "internal", "late_sync", "loss_note",
		"names", "notify", "too_large", "trim", "watchdog":
		return troubleKind{momentary: true}
	case "udp_overloaded", "udp_kernel_drops":
		return troubleKind{}
	case "connections":
		return troubleKind{byClients: true}
	}
	return troubleKind{byClients: strings.HasPrefix(name, "udp_") && name != "udp_read"}
}

// isOld reports whether a trouble that nothing ends has not been seen for long.
func (t *trouble) isOld(now time.Time) bool {
	return t.kind.momentary && now.Sub(t.last.Time) > momentaryFor
}

// open lists the troubles that are not over, those that began last at the end.
func (h *troubleHandler) open() []admin.Trouble {
	now := time.Now()
	h.known.mu.Lock()
	defer h.known.mu.Unlock()
	var all []admin.Trouble
	for name, t := range h.known.byName {
		if t.open && !t.isOld(now) {
			all = append(all, t.listed(name))
		}
	}
	slices.SortFunc(all, func(a, b admin.Trouble) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Name, b.Name))
	})
	return all
}

// listed is a trouble for people.
func (t *trouble) listed(name string) admin.Trouble {
	l := admin.Trouble{
		Name: name, Verdict: admin.Warning, Since: t.since, Last: t.last.Time, Times: t.count, Momentary: t.kind.momentary,
	}
	switch {
	case t.kind.byClients:
		l.Verdict = admin.Fine
	case t.last.Level >= slog.LevelError:
		l.Verdict = admin.Failing
	}
	l.Message, l.Advice = adviceIn(t.last.Message)
	t.last.Attrs(func(a slog.Attr) bool {
		if a.Key != "error" {
			return true
		}
		err, ok := a.Value.Any().(error)
		if !ok {
			l.Error = a.Value.String()
			return false
		}
		f := bucket.FailureOf(err)
		l.Error, l.Advice = f.Text, cmp.Or(f.Hint, l.Advice)
		return false
	})
	return l
}

// adviceIn splits a message, "what happened: why (what to do)", into that and the advice.
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
