package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"collectord/collectord/auth"
	"collectord/shipper"
	"collectord/shipper/bucket"
	"collectord/wal"
)

// fakeDaemon is a daemon. Tests set its state, under its mutex if the monitor runs.
type fakeDaemon struct {
	mu       sync.Mutex // guards snapshot while Run is running
	snapshot Snapshot
	starting bool
	unready  []string
	troubles []Trouble
	putAside []PutAside
}

func (d *fakeDaemon) monitor() *Monitor {
	d.snapshot.Log.SecondsUntilFull, d.snapshot.Log.MaxBytes = math.Inf(1), 1000
	d.snapshot.Reload = ReloadSnapshot{OK: true, At: time.Now()}
	d.snapshot.HTTP.CertificateExpires = math.Inf(1)
	return NewMonitor(MonitorOptions{
		Version: "1.2.3", Node: "edge-1", Began: time.Now(),
		Snapshot: func() (Snapshot, bool) {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.snapshot, !d.starting
		},
		Ready:    func() []string { return d.unready },
		Troubles: func() []Trouble { return slices.Clone(d.troubles) },
		PutAside: func() []PutAside { return slices.Clone(d.putAside) },
	})
}

// setFailing makes the storage fail since d ago.
func (d *fakeDaemon) setFailing(since time.Duration, f bucket.Failure) {
	d.snapshot.Shipper.Destination = shipper.Destination{
		Name: "s3://usages/clinic", FailingSince: time.Now().Add(-since), Attempts: 3, Failure: f, NextAttempt: time.Now().Add(20 * time.Second),
	}
}

var (
	connectionRefused = bucket.Failure{Kind: "network", Text: "put x: dial tcp: connect: connection refused", Hint: "nothing listens there"}
	noBucket          = bucket.Failure{Kind: "NoSuchBucket", Text: "put x: there is none", Hint: "create it", Permanent: true}
)

// TestTheVerdict has a row for each rule and threshold.
func TestTheVerdict(t *testing.T) {
	hours := func(n float64) float64 { return n * 3600 }
	for name, c := range map[string]struct {
		change      func(d *fakeDaemon)
		want        Verdict
		reasons     string // names
		wantSummary string // part of the summary
	}{
		"nothing":  {func(*fakeDaemon) {}, Fine, "", "0 usages/s come in; all is shipped"},
		"starting": {func(d *fakeDaemon) { d.starting, d.unready = true, []string{ReadyStarting} }, Starting, "", "the daemon is starting"},
		"starting, but in trouble": {func(d *fakeDaemon) {
			d.starting, d.troubles = true, []Trouble{{Name: "start", Verdict: Failing, Message: "no disk"}}
		}, Failing, "start", "no disk"},
		"stopping": {func(d *fakeDaemon) { d.unready = []string{ReadyDraining} }, Warning, "stopping", "stopping"},
		"full":     {func(d *fakeDaemon) { d.unready = []string{"log is full: 4 of 4 bytes"} }, Failing, "log", "log is full"},
		"full, by a trouble": {func(d *fakeDaemon) {
			d.unready = []string{"log is full"}
			d.troubles = []Trouble{{Name: "full", Verdict: Failing, Message: "the log is full"}}
		}, Failing, "full", "the log is full"},
		"storage away":          {func(d *fakeDaemon) { d.setFailing(time.Minute, connectionRefused) }, Warning, "destination", "can't ship to s3://usages/clinic since "},
		"storage away: cause":   {func(d *fakeDaemon) { d.setFailing(time.Minute, connectionRefused) }, Warning, "destination", "(connection refused), next attempt in 20 s; all is shipped"},
		"storage away for long": {func(d *fakeDaemon) { d.setFailing(6*time.Minute, connectionRefused) }, Failing, "destination", ""},
		"storage silent": {func(d *fakeDaemon) {
			d.snapshot.Shipper.Destination = shipper.Destination{Name: "s3://usages/clinic", SilentSince: time.Now().Add(-20 * time.Second)}
		}, Warning, "silent", "s3://usages/clinic has acknowledged and answered nothing for 20 s"},
		"wrong bucket": {func(d *fakeDaemon) { d.setFailing(0, noBucket) }, Failing, "destination", "(there is none)"},
		"storage away, listed once": {func(d *fakeDaemon) {
			d.setFailing(0, connectionRefused)
			for _, name := range []string{TroubleShipping, "storage_check", "heartbeat", "last look"} {
				d.troubles = append(d.troubles, Trouble{Name: name, Verdict: Failing})
			}
		}, Warning, "destination", ""},
		"an error": {func(d *fakeDaemon) {
			d.troubles = []Trouble{{Name: "seal", Verdict: Failing, Message: "can't seal", Error: "write: EIO"}}
		}, Failing, "seal", "can't seal (EIO), since"},
		"a warning":      {func(d *fakeDaemon) { d.troubles = []Trouble{{Name: "heartbeat", Verdict: Warning, Message: "none"}} }, Warning, "heartbeat", ""},
		"strangers fail": {func(d *fakeDaemon) { d.troubles = []Trouble{{Name: "unauthorized", Verdict: Fine}} }, Fine, "", ""},
		"the worst first": {func(d *fakeDaemon) {
			d.troubles = []Trouble{{Name: "a", Verdict: Warning}, {Name: "b", Verdict: Failing}, {Name: "c", Verdict: Warning}}
		}, Failing, "b a c", "(and 2 more)"},
		"full in 30 min": {func(d *fakeDaemon) {
			d.snapshot.Log.OldestUnshipped = 11 * time.Minute
			d.snapshot.Log.SecondsUntilFull = hours(.5)
		}, Failing, "full_soon", "the log is full in 30 min"},
		"full in 30 min, nothing old": {func(d *fakeDaemon) { d.snapshot.Log.SecondsUntilFull = hours(.5) }, Fine, "", ""},
		"full in 30 min, and away":    {func(d *fakeDaemon) { d.setFailing(0, connectionRefused); d.snapshot.Log.SecondsUntilFull = hours(.5) }, Failing, "full_soon destination", ""},
		"full in 5 h":                 {func(d *fakeDaemon) { d.setFailing(0, connectionRefused); d.snapshot.Log.SecondsUntilFull = hours(5) }, Warning, "destination full_soon", ""},
		"full in 25 h":                {func(d *fakeDaemon) { d.setFailing(0, connectionRefused); d.snapshot.Log.SecondsUntilFull = hours(25) }, Warning, "destination", ""},
		"how much waits": {func(d *fakeDaemon) {
			d.setFailing(0, connectionRefused)
			d.snapshot.Ledger.Pending, d.snapshot.Log.OldestUnshipped, d.snapshot.Log.SecondsUntilFull = 60000, 9*time.Minute, hours(3)
		}, Warning, "destination full_soon", "60000 usages wait, the oldest for 9 min, full in 3 h"},
		"nothing waits for long": {func(d *fakeDaemon) { d.snapshot.Ledger.Pending, d.snapshot.Log.SecondsUntilFull = 2, hours(.1) }, Fine, "", "come in; 2 usages wait, the oldest for 0 s"},
		"old":                    {func(d *fakeDaemon) { d.snapshot.Log.OldestUnshipped = 61 * time.Minute }, Warning, "overdue", ""},
		"overdue":                {func(d *fakeDaemon) { d.snapshot.Log.OldestUnshipped = 25 * time.Hour }, Failing, "overdue", "has waited for 25 h"},
		"dropped": {func(d *fakeDaemon) {
			d.snapshot.Ledger.BySource[wal.UDP].Dropped = map[string]uint64{"commit_failed": 1}
		}, Failing, "dropped", "usages that came by UDP were lost in the last minute: 1 commit_failed"},
		"overloaded":              {func(d *fakeDaemon) { d.setRejected(wal.UDP, 1000, "overloaded", 1) }, Warning, "rejected", "1 overloaded"},
		"invalid":                 {func(d *fakeDaemon) { d.setRejected(wal.HTTP, 100, "invalid_json", 10) }, Warning, "invalid", "10 of the 100 usages that came by HTTP in the last minute were rejected: 10 invalid_json"},
		"few are invalid":         {func(d *fakeDaemon) { d.setRejected(wal.HTTP, 101, "invalid_json", 10) }, Fine, "", ""},
		"one is invalid":          {func(d *fakeDaemon) { d.setRejected(wal.HTTP, 1, "invalid_json", 1) }, Fine, "", ""},
		"strangers send":          {func(d *fakeDaemon) { d.setRejected(wal.HTTP, 1000, "unauthorized", 1000) }, Fine, "", ""},
		"rejected while stopping": {func(d *fakeDaemon) { d.setRejected(wal.HTTP, 1000, "shutting_down", 1000) }, Fine, "", ""},
		"the kernel drops":        {func(d *fakeDaemon) { d.snapshot.UDP.KernelDrops = 7 }, Warning, "kernel_drops", "dropped 7 datagrams"},
		"much put aside": {func(d *fakeDaemon) {
			d.putAside = []PutAside{{Path: "wal/x"}}
			d.snapshot.Log.PutAside = 20_000
		}, Warning, "put_aside", "20000 files or directories were put aside"},
		"put aside": {func(d *fakeDaemon) { d.putAside = []PutAside{{Path: "wal/x"}} }, Warning, "put_aside", "wal/x was put aside"},
		"damaged": {func(d *fakeDaemon) {
			d.putAside = []PutAside{{Path: "wal/x"}}
			d.snapshot.Ledger.Quarantined = 3
		}, Warning, "put_aside", "wal/x was put aside; damaged since the start and not shipped: 3 usages"},
		"no reload":                   {func(d *fakeDaemon) { d.snapshot.Reload.OK = false }, Warning, "reload", ""},
		"the certificate expires":     {func(d *fakeDaemon) { d.setExpiry(13 * 24 * time.Hour) }, Warning, "certificate", "the TLS certificate expires in 13 days"},
		"the certificate is new":      {func(d *fakeDaemon) { d.setExpiry(15 * 24 * time.Hour) }, Fine, "", ""},
		"the certificate has expired": {func(d *fakeDaemon) { d.setExpiry(-time.Hour) }, Failing, "certificate", "has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDaemon{}
				m := d.monitor()
				<-time.After(time.Minute)
				c.change(d)
				s := m.Status()
				var names []string
				for _, r := range s.Reasons {
					names = append(names, r.Name)
				}
				if s.Verdict != c.want || strings.Join(names, " ") != c.reasons || !strings.Contains(s.Summary, c.wantSummary) || s.Verdict == Fine && strings.Contains(s.Summary, "full in") {
					t.Errorf("%s, %q: %s", s.Verdict, names, s.Summary)
				}
			})
		})
	}
}

func (d *fakeDaemon) setRejected(source wal.Source, received uint64, reason string, n uint64) {
	d.snapshot.Ledger.BySource[source] = wal.SourceLedger{Received: received, Rejected: map[string]uint64{reason: n}}
}

func (d *fakeDaemon) setExpiry(in time.Duration) {
	d.snapshot.HTTP.CertificateExpires = float64(time.Now().Add(in).Unix())
}

// TestRatesAreOfTheLastMinute has 10 usages a second for 30 minutes, and then none.
func TestRatesAreOfTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDaemon{}
		m := d.monitor()
		done := make(chan struct{})
		defer close(done)
		go m.Run(done)
		received := &d.snapshot.Ledger.BySource[wal.HTTP].Received
		pass := func(seconds int, each uint64) {
			for range seconds {
				d.mu.Lock()
				*received += each
				d.mu.Unlock()
				<-time.After(time.Second)
				synctest.Wait()
			}
		}
		check := func(when string, minute, now float64) {
			t.Helper()
			s := m.Status().Sources[wal.HTTP]
			if math.Abs(s.PerSecond-minute) > 1 || math.Abs(s.Now-now) > 1 {
				t.Errorf("%s: %.2f usages/s, now %.2f; want %v, %v", when, s.PerSecond, s.Now, minute, now)
			}
		}
		check("at the start", 0, 0)
		pass(5, 10)
		check("after five seconds", 10, 10)
		pass(1800, 10)
		check("after half an hour", 10, 10)
		if n := len(m.past.samples); n > 8 {
			t.Errorf("%d samples are kept", n)
		}
		pass(30, 0)
		check("30 s after the last", 5, 0)
		pass(60, 0)
		check("90 s after the last", 0, 0)
	})
}

// TestTextsOfAStatusArePrintableAndBounded uses hostile texts everywhere in a status.
func TestTextsOfAStatusArePrintableAndBounded(t *testing.T) {
	hostile := "\x1b[31m\n\u202eFINE: \x9b" + strings.Repeat("é", 5000)
	d := &fakeDaemon{
		unready:  []string{hostile},
		troubles: []Trouble{{Name: hostile, Message: hostile, Error: hostile, Advice: hostile, Verdict: Failing}},
		putAside: []PutAside{{Path: hostile, Reason: hostile}},
	}
	m := d.monitor()
	d.setFailing(0, bucket.Failure{Kind: hostile, Text: hostile, Hint: hostile})
	s := m.Status()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range []string{string(text), s.verbose(), s.line()} {
		if len(all) > 60_000 || strings.ContainsAny(all, "\x1b\u202e") || !utf8.ValidString(all) {
			t.Errorf("%d bytes: %.3000q", len(all), all)
		}
	}
	if n := len(s.line()); n > 4000 {
		t.Errorf("the line has %d bytes", n)
	}
	if strings.Contains(s.line(), "\n") || strings.Count(s.verbose(), "\n") != 4 {
		t.Errorf("a stranger adds a line: %s", s.verbose())
	}
}

// TestNamesOfAStatusAreDocumented compares the JSON with the table in the documentation.
func TestNamesOfAStatusAreDocumented(t *testing.T) {
	d := &fakeDaemon{}
	m := d.monitor()
	d.setFailing(0, connectionRefused)
	d.troubles, d.putAside = []Trouble{{}}, []PutAside{{}}
	d.snapshot.Clients.Clients = []auth.Client{{}}
	text, err := json.Marshal(m.Status())
	if err != nil {
		t.Fatal(err)
	}
	var of func(v any) []string
	of = func(v any) (names []string) {
		switch v := v.(type) {
		case map[string]any:
			for name, part := range v {
				names = append(append(names, name), of(part)...)
			}
		case []any:
			for _, part := range v {
				names = append(names, of(part)...)
			}
		}
		return names
	}
	var parsed any
	if err := json.Unmarshal(text, &parsed); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range of(parsed) {
		if !regexp.MustCompile(fmt.Sprintf("`[^`\n]*\\b%s\\b[^`\n]*`", name)).Match(page) {
			t.Errorf("docs/status.md lacks %s", name)
		}
	}
}
