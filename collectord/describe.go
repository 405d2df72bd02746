package main

import (
	"collectord/collectord/admin"
	"collectord/collectord/auth"
	"collectord/shipper/bucket"
)

// describeHost adds to a heartbeat what the log does not record: the open troubles, and
// the usages accepted from each client. It omits troubles that clients alone can cause.
func describeHost(h *bucket.Heartbeat, troubles []admin.Trouble, counts auth.ClientCounts) {
	for _, t := range troubles {
		switch {
		case t.Verdict == admin.Fine:
		case t.Name == "heartbeat": // a heartbeat that can be read proves that this trouble is over
		case t.Name == "clone": // the heartbeat has a separate field for it
		default:
			message := t.Message
			if t.Error != "" {
				message += ": " + t.Error
			}
			since := t.Since.UTC()
			h.Trouble = append(h.Trouble, bucket.Trouble{Name: t.Name, Since: &since, Message: message})
		}
	}
	counts.SortByLastSeen()
	h.ClientsKnown = len(counts.Clients)
	h.Clients = make([]bucket.Client, len(counts.Clients))
	for i, c := range counts.Clients {
		h.Clients[i] = bucket.Client{Name: c.Name, Usages: c.Usages}
		if !c.LastSeen.IsZero() {
			h.Clients[i].LastSeen = &c.LastSeen
		}
	}
}
