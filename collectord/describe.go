package main

import (
	"collectord/collectord/auth"
	"collectord/shipper/bucket"
)

// describeClients adds to a heartbeat what was accepted of each client.
func describeClients(h *bucket.Heartbeat, counts auth.ClientCounts) {
	h.ClientsKnown = len(counts.Clients)
	h.Clients = make([]bucket.Client, len(counts.Clients))
	for i, c := range counts.Clients {
		h.Clients[i] = bucket.Client{Name: c.Name, Usages: c.Usages}
		if !c.LastSeen.IsZero() {
			h.Clients[i].LastSeen = &c.LastSeen
		}
	}
}
