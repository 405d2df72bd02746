package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
)

// TestClientsHaveTheirOwnSeriesAndTheRestIsOneSeries also checks that a client that was
// never seen has the time 0. An alert must distinguish such a client from one that was seen
// long ago.
func TestClientsHaveTheirOwnSeriesAndTheRestIsOneSeries(t *testing.T) {
	counts := auth.ClientCounts{Rest: 12, Evicted: 3, Clients: []auth.Client{
		{Name: "never", OwnSeries: true},
		{Name: "ward-3", OwnSeries: true, Usages: 7, LastSeen: time.Unix(1_795_000_000, 0)},
		{Name: "many", Usages: 12, LastSeen: time.Unix(1_795_000_001, 0)},
	}}
	o := healthyOptions()
	o.Snapshot = func() (s Snapshot, ok bool) {
		s.Clients = counts
		return s, true
	}
	_, body := get(t, serve(t, o)+"/metrics")
	var got []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "collectord_client") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`collectord_client_last_seen_timestamp_seconds{client="never"} 0`,
		`collectord_client_last_seen_timestamp_seconds{client="ward-3"} 1.795e+09`,
		`collectord_client_names_evicted_total 3`,
		`collectord_client_usages_total{client="(others)"} 12`,
		`collectord_client_usages_total{client="never"} 0`,
		`collectord_client_usages_total{client="ward-3"} 7`,
		`collectord_clients 3`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("exported are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if auth.ValidClient(otherClients) || fmt.Sprint(auth.MaxOwnSeries) != "1000" || fmt.Sprint(auth.MaxCertificates) != "10000" {
		t.Error("the help of the series has other bounds, or another name for the remaining clients, than the code")
	}
}
