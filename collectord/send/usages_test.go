package send

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestGeneratedUsagesHaveOneSizeAndDependOnSeedAndNumber(t *testing.T) {
	o := Options{Seed: 7, From: time.Date(2026, 2, 28, 23, 59, 59, 500_000_000, time.UTC)}
	one, other := o.source(), o.source()
	seen := map[string]bool{}
	var all [2000]string
	for n := range all {
		all[n] = string(one.appendUsage(nil, int64(n)))
		if seen[all[n]] {
			t.Errorf("usage %d is a duplicate", n)
		}
		seen[all[n]] = true
		var u struct {
			PatientID  string
			Timestamp  time.Time
			Medication string
			Dose       int
		}
		if err := json.Unmarshal([]byte(all[n]), &u); err != nil || len(all[n]) != 98 {
			t.Fatalf("usage %d, %d bytes: %v: %s", n, len(all[n]), err, all[n])
		}
		if want := o.From.Add(time.Duration(n) * time.Millisecond); !u.Timestamp.Equal(want) {
			t.Errorf("usage %d: %v, want %v", n, u.Timestamp, want)
		}
		if len(u.PatientID) != 8 || len(u.Medication) != 10 || u.Dose < 1 || u.Dose > 4 {
			t.Errorf("usage %d: %s", n, all[n])
		}
	}
	for _, n := range rand.Perm(len(all)) { // in any order, by any worker
		if got := string(other.appendUsage(nil, int64(n))); got != all[n] {
			t.Errorf("usage %d is %s from another generator, want %s", n, got, all[n])
		}
	}
	if o.Seed = 8; string(o.source().appendUsage(nil, 0)) == all[0] {
		t.Error("another seed generates the same usages")
	}
}

func TestPayloadIsLinesOrOneArray(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\":1}\n\n  {\"b\":2} \r\n":         `{"a":1}|{"b":2}`,
		"{\"a\":1}\nnot JSON":                   `{"a":1}|not JSON`, // sent unchecked, to see the server's response
		" [ {\"a\":\n1} , {\"b\":\"x\\ny\"}\n]": `{"a": 1}|{"b":"x\ny"}`,
	} {
		p, err := ReadPayload(strings.NewReader(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := string(bytes.Join(p.usages, []byte("|"))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		if n := int64(len(p.usages)); string(p.appendUsage(nil, n+1)) != string(p.usages[1]) {
			t.Errorf("%q: the usage after the last one is not the first", text)
		}
	}
	for _, text := range []string{"", " \n", "[]", `[{"secret":1},`, `[{"a":1} secret]`} {
		if _, err := ReadPayload(strings.NewReader(text)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
