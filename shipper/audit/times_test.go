package audit

import (
	"context"
	"strings"
	"testing"

	"collectord/shipper/bucket"
)

func TestTimesThatJSONCanNotRepresentAreOmitted(t *testing.T) {
	b := newFolder(t)
	b.putObject("n", 7, 1, 1, 10, noon)
	b.putObject("n", 7, 1, 21, 30, noon)
	putText := func(key, text string) {
		if err := b.store.Put(context.Background(), bucket.NewObject(key, []byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	k := bucket.Key{Node: "n", LogID: 7, Run: 1, FirstSeq: 11, LastSeq: 20}
	o, _ := bucket.NewLossNote(k, "damaged", noon, true)
	text := make([]byte, o.Size)
	o.Body.ReadAt(text, 0)
	putText(k.LossKey(), strings.Replace(string(text), noon.Format("2006-01-02T15:04:05Z"), "2026-11-24T12:00:00+24:00", 1))
	k = bucket.Key{Node: "m", LogID: 8, Run: 1}
	putText(k.HeartbeatKey(), `{"format":1,"node":"m","log_id":"0000000000000008","run":"0000000000000001","last_seq":5,"confirmed_below":1,"pending":5,"oldest_unshipped_seconds":900000000,"at":"0000-01-01T00:00:00Z"}`)
	_, r := b.findings(Options{Now: noon})
	checkJSON(t, r)
}
