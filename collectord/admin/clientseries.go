package admin

import "collectord/collectord/auth"

// maxClients limits the number of clients in a Status.
const maxClients = 1000

// clientsSeen returns the clients of a Status, those silent longest first.
func clientsSeen(counts auth.ClientCounts) []ClientSeen {
	counts.SortByLastSeen()
	all := make([]ClientSeen, min(len(counts.Clients), maxClients))
	for i := range all {
		c := &counts.Clients[i]
		all[i] = ClientSeen{Name: c.Name, Usages: c.Usages}
		if !c.LastSeen.IsZero() {
			all[i].LastSeen = &c.LastSeen
		}
	}
	return all
}

// otherClients is the label value for all clients without a series of their own. It is
// not a valid client name.
const otherClients = "(others)"

// clientSeries returns the metrics of clients. auth.MaxOwnSeries limits the number of
// their series.
func clientSeries() []series {
	seen := newSeries("gauge", "client_last_seen_timestamp_seconds", "When usages of a client were accepted last; 0: never since the start. Clients are the names of tokens and client certificates; the first 1,000 have series of their own.", "client")
	seen.read = func(s *Snapshot, emit func(float64, ...string)) {
		for i := range s.Clients.Clients {
			if c := &s.Clients.Clients[i]; c.OwnSeries {
				at := 0.0
				if !c.LastSeen.IsZero() {
					at = float64(c.LastSeen.Unix())
				}
				emit(at, c.Name)
			}
		}
	}
	usages := newSeries("counter", "client_usages_total", "Usages stored, by client; the client (others) stands for all clients beyond the first 1,000. Usages without a client's name are not counted.", "client")
	usages.read = func(s *Snapshot, emit func(float64, ...string)) {
		for i := range s.Clients.Clients {
			if c := &s.Clients.Clients[i]; c.OwnSeries {
				emit(float64(c.Usages), c.Name)
			}
		}
		emit(float64(s.Clients.Rest), otherClients)
	}
	return []series{
		seen, usages,
		gauge("clients", "Clients that are known: all that have a token, and those whose certificate was seen.",
			func(s *Snapshot) float64 { return float64(len(s.Clients.Clients)) }),
		counter("client_names_evicted_total", "Names of client certificates that made room for others: at most 10,000 are known at a time.",
			func(s *Snapshot) float64 { return float64(s.Clients.Evicted) }),
	}
}
