package audit

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"collectord/shipper/bucket"
	"collectord/wal"
)

func TestSeveralDestinationsAreAuditedAsOne(t *testing.T) {
	t.Parallel()
	one, other, empty := newFolder(t), newFolder(t), newFolder(t)
	one.putObject("n", 7, 1, 1, 10, noon)
	one.putObject("n", 7, 1, 21, 30, noon)
	other.putObject("m", 8, 1, 1, 10, noon)
	other.putHeartbeat("m", 8, bucket.Heartbeat{LastSeq: 20, ConfirmedBelow: 21, At: noon})
	r, err := RunAll(context.Background(), []bucket.Store{one.store, other.store, empty.store}, Options{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, string(f.Kind)+" "+f.Destination)
	}
	want := []string{"nothing " + empty.store.String(), "missing " + other.store.String(), "not_yet " + one.store.String()}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || r.Objects != 3 || len(r.Logs) != 2 || r.Logs[1].Destination != other.store.String() || r.Tallies[Missing] != (Tally{1, 10}) {
		t.Errorf("%q, %+v", got, r)
	}
	r.Expect([]string{"n", "m"}, 1, noon)
	if len(r.Findings) != 3 {
		t.Errorf("%+v", r.Findings)
	}
}

func TestRecordsComeFromSeveralDestinations(t *testing.T) {
	t.Parallel()
	one, other := newFolder(t), newFolder(t)
	stores := []bucket.Store{one.store, other.store}
	for _, b := range []testBucket{one, other} {
		shipRecords(t, t.TempDir(), b.store, wal.Options{}, 20, 10)
	}
	read := func(s Selection) (ids []bucket.ID, err error) {
		t.Helper()
		err = s.RecordsOfAll(context.Background(), stores, func(int) {}, func(lines []byte) error {
			for line := range bytes.Lines(lines) {
				id, ok := bucket.Line(line).ID()
				if !ok {
					t.Errorf("%s", line)
				}
				ids = append(ids, id)
			}
			return nil
		})
		return ids, err
	}
	all, err := read(Selection{})
	if err != nil || len(all) != 40 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	if got, err := read(Selection{IDs: []bucket.ID{all[35], all[3]}}); err != nil || len(got) != 2 || got[0] != all[3] || got[1] != all[35] {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := read(Selection{IDs: []bucket.ID{all[3]}}); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	missingID := all[3]
	missingID[9] ^= 0x10
	if got, err := read(Selection{IDs: []bucket.ID{missingID, all[25]}}); !errors.Is(err, ErrNoSuchID) || len(got) != 1 || !strings.Contains(err.Error(), missingID.String()) || strings.Contains(err.Error(), all[25].String()) {
		t.Errorf("%v, %v", got, err)
	}
	// A damaged object in one destination does not stop reading the other.
	half, m := one.get(one.keyOfSeq(1))
	one.replace(one.keyOfSeq(1), half[:len(half)/2], m)
	var damage *DamagedError
	if got, err := read(Selection{}); !errors.As(err, &damage) || len(got) < 30 || !strings.Contains(err.Error(), one.keyOfSeq(1)) {
		t.Errorf("%d records, %v", len(got), err)
	}
}
