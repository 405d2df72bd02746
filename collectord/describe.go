package main

import (
	"collectord/collectord/admin"
	"collectord/collectord/auth"
	"collectord/shipper/bucket"
)

// describeHost adds to a heartbeat what is known of the host beside its log: what fails,
// but for what its clients alone can cause, and what was accepted of each client.
func describeHost(h *bucket.Heartbeat, troubles []admin.Trouble, counts auth.ClientCounts) {
	for _, t := range troubles {
		switch {
		case t.Verdict == admin.Fine:
		case t.Name == "heartbeat": // it is over, if this one is read
		case t.Name == "clone": // it has a member of its own
		default:
			message := t.Message
			if t.Error != "" {
				message += ": " + t.Error
			}
			since := t.Since.UTC()
			h.Trouble = append(h.Trouble, bucket.Trouble{Name: t.Name, Since: &since, Message: message})
		}
	}
	counts.SilentLongestFirst()
	h.ClientsKnown = len(counts.Clients)
	h.Clients = make([]bucket.Client, len(counts.Clients))
	for i, c := range counts.Clients {
		h.Clients[i] = bucket.Client{Name: c.Name, Usages: c.Usages}
		if !c.LastSeen.IsZero() {
			h.Clients[i].LastSeen = &c.LastSeen
		}
	}
}
