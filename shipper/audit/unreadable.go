package audit

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"collectord/shipper/bucket"
)

// unreadableObjects collects the objects that fail alone, each once.
type unreadableObjects struct {
	mu          sync.Mutex // guards reasons and more
	reasons     map[string]string
	beyondLimit int // number beyond maxFindings
}

// maxErrorText limits how many characters of an error are kept: messages of a storage can have
// any length.
const maxErrorText = 1000

func (f *unreadableObjects) add(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.reasons[key]; !known && len(f.reasons) == maxFindings {
		f.beyondLimit++
		return
	}
	f.reasons[key] = errorText(err)
}

func errorText(err error) string { return fmt.Sprintf("%.*s", maxErrorText, err) }

// forget removes an object that is already reported.
func (f *unreadableObjects) forget(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.reasons, key)
}

// addUnreadable reports the objects that the storage does not return and that a deep audit
// did not report: metadata, loss notes and heartbeats.
func (a *audit) addUnreadable() {
	reasons := a.calls.unreadable.reasons
	for _, key := range slices.Sorted(maps.Keys(reasons)) {
		f := Finding{Kind: Unreadable, Keys: []string{key}, Reason: reasons[key]}
		k, ours := bucket.ParseKey(key)
		if ours {
			f.LogID, f.Runs, f.FirstSeq, f.LastSeq = bucket.HexID(k.LogID), []string{bucket.HexID(k.Run)}, k.FirstSeq, k.LastSeq
		} else if k, ours = bucket.ParseLossKey(key); !ours {
			k, _ = bucket.ParseHeartbeatKey(key)
		}
		// An object with an unknown key may belong to any node. Metadata and notes were
		// read only for the logs of the node.
		if f.Node = k.Node; a.Node == "" || f.Node == "" || a.Node == f.Node || f.FirstSeq > 0 {
			a.add(f)
		}
	}
	if n := a.calls.unreadable.beyondLimit; n > 0 {
		a.report.Tallies[Unreadable] = a.report.Tallies[Unreadable].plus(Tally{Findings: n})
	}
}
