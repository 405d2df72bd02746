//go:build torture

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"collectord/shipper/bucket"
)

// TestCompactionIsNotStoppedByOneHost stores what a host can store below its prefix: the
// records of the others are in, and what is wrong is named.
func TestCompactionIsNotStoppedByOneHost(t *testing.T) {
	compactPlaces(t, func(t *testing.T, p *compactPlace) {
		log := &compactLog{p: p, node: "edge-1", id: 1, next: 1}
		log.put(0, compactIDs(7, 1, 10))
		log.put(1, compactIDs(7, 11, 10))
		for name, beat := range map[string]string{
			"deep":  strings.Repeat("[", 100_000),
			"large": `"` + strings.Repeat("x", 1<<20) + `"`,
			"inf":   `{"format":1,"node":"inf","log_id":"000000000000000e","at":"2026-11-23T14:00:00Z","last_seq":1e999,"confirmed_below":1,"oldest_unshipped_seconds":0,"retired":false,"cloned":false}`,
			"old":   `{"format":1,"node":"old","log_id":"000000000000000e","at":"2026-11-23T14:00:00Z","last_seq":1,"confirmed_below":1,"oldest_unshipped_seconds":1e300,"retired":false,"cloned":false}`,
		} {
			p.store(bucket.HeartbeatPrefix+name+"-000000000000000e.json", []byte(beat))
		}
		line := func(id byte, client, usage string) []byte {
			return fmt.Appendf(nil, `{"id":"00000000-0000-7000-8000-0000000000%02x","received_at":"2026-11-23T12:00:00.000000Z","via":"http","client":%s,"usage":%s}`+"\n", id, client, usage)
		}
		run, keys := uint64(0), map[string]bucket.Key{}
		for name, lines := range map[string][]byte{
			"half of a pair": line(0xf0, "null", `{"a":"\ud800"}`),
			"half as UTF-8":  line(0xf1, "null", "{\"a\":\"\xed\xa0\x80\"}"),
			"client":         line(0xf2, `"\ud800"`, `{}`),
			"deep":           line(0xf3, "1", `{"a":`+strings.Repeat("[", 200_000)+strings.Repeat("]", 200_000)+`}`),
			"many lines":     bytes.Repeat([]byte("\n"), 100),
		} {
			run++
			k := bucket.Key{Node: "evil", LogID: 0xe, Run: run, FirstSeq: 1, LastSeq: uint64(bytes.Count(lines, []byte("\n"))), Hour: bucket.HourOf(compactNoon)}
			p.store(k.String(), compactFrame(t, lines))
			keys[name] = k
		}
		out := p.compact(2)
		for name, k := range keys {
			if !strings.Contains(out, fmt.Sprintf("left out %q: ", k)) {
				t.Errorf("%s: %s", name, out)
			}
		}
		if n := len(p.rows()); n != 20 {
			t.Errorf("%d rows", n)
		}
	})
}
