package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

// finePage is the page of a healthy daemon that has run for a week.
func finePage() Page {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	s := Status{
		Version: "1.2.3", Node: "edge-1", LogID: "0123456789abcdef", At: now, Since: now.Add(-7*24*time.Hour - 3*time.Hour),
		Verdict: Fine, Summary: "123 usages/s come in; 512 usages wait, the oldest for 12 s",
		WindowSeconds: 60,
		Sources: []SourceStatus{
			{Source: "http", PerSecond: 120.4, Now: 118.9, Rejected: map[string]uint64{"invalid_json": 2}},
			{Source: "udp", PerSecond: 1234.5, Now: 3, AllKernelDrops: 17},
		},
		Commits: CommitStatus{
			PerSecond: 40, Usages: 3.2, Bytes: 1432, P50: ptr(0.0021), P99: ptr(0.0163), FsyncP50: ptr(0.0018), FsyncP99: ptr(0.014),
		},
		Backlog: BacklogStatus{Usages: 512, Bytes: 3 << 20, OldestSeconds: 12},
		Fill: FillStatus{
			UsedBytes: 1300 << 20, MaxBytes: 4 << 30, LogBytes: 1100 << 20, KeptBytes: 700 << 20, SpoolBytes: 128 << 20, QuarantineBytes: 72 << 20, FreeBytes: ptr(int64(80 << 30)),
		},
		Uploads: UploadStatus{
			Objects: 2016, Bytes: 9 << 30, BytesPerSecond: 14567, SegmentsToShip: 1, InFlight: 1, P50: ptr(0.21), P99: ptr(1.3), Failures: map[string]uint64{"network": 3},
		},
		Kept:        KeptStatus{Segments: 6, Bytes: 700 << 20},
		Destination: Destination{Where: "s3://usages/prod at http://127.0.0.1:9000", LastSuccess: ptr(now.Add(-17 * time.Second)), Storage: StorageStatus{"yes", "crc32c", ""}},
		Ledger: LedgerStatus{
			HTTP: SourceLedger{
				Received: 72_345_678, Accepted: 72_345_000, Appended: 72_344_000, Repeated: 998, Waiting: 2,
				Rejected: map[string]uint64{"invalid_json": 600, "log_full": 0, "unauthorized": 78}, Dropped: map[string]uint64{"commit_failed": 0},
			},
			UDP: SourceLedger{
				Received: 1_000, Accepted: 990, Appended: 980,
				Rejected: map[string]uint64{"overloaded": 10, "log_full": 0}, Dropped: map[string]uint64{"commit_failed": 10},
			},
			Pending: 512, Shipped: 72_344_468,
		},
		Connections: ConnectionStatus{Open: 12, Max: 10000, MaxTLS: 1024, TLS: 3, CertificateExpires: ptr(now.Add(90 * 24 * time.Hour))},
		Reload:      ReloadStatus{OK: true, At: now.Add(-7 * 24 * time.Hour)},
	}
	p := Page{Status: s, hour: newHistory(now).hour()}
	for i := 60; i < len(p.hour); i++ {
		x := float64(i)
		p.hour[i] = interval{accepted: 1200 + 200*math.Sin(x/20), refused: max(0, 90*math.Sin(x/7)-60), p50: 0.002, p99: 0.01 + 0.006*math.Sin(x/5), backlog: float64(i % 30 * 1000), objects: float64(i % 30 / 29)}
	}
	return p
}

// outagePage is the page of the same daemon during an outage of the storage.
func outagePage() Page {
	p := finePage()
	p.Verdict = Failing
	p.Destination.FailingSince, p.Destination.Attempts = ptr(p.At.Add(-192*time.Minute)), 214
	p.Destination.Error = &ErrorStatus{"network", "put dt=2026-11-23/hour=08/edge-1: dial tcp 127.0.0.1:9000: connect: connection refused", "see that the storage runs and can be reached from here", false}
	p.Destination.NextAttempt = ptr(p.At.Add(19 * time.Second))
	p.Backlog = BacklogStatus{Usages: 2_345_678, Bytes: 1 << 30, OldestSeconds: 11530, SecondsUntilFull: ptr(5.6 * 3600)}
	p.Reasons = []Reason{
		{Failing, "destination", "can't ship to s3://usages/prod since 08:48 (connection refused), next attempt in 19 s", "see that the storage runs and can be reached from here"},
		{Warning, "full_soon", "the log is full in 5 h", "see to the destination, or raise wal.max_bytes"},
	}
	p.Troubles = []Trouble{
		{Name: "shipping", Verdict: Failing, Message: "can't ship", Error: "connection refused", Since: *p.Destination.FailingSince, Last: p.At, Times: 214},
		{Name: "unauthorized", Verdict: Fine, Message: "a client has no valid token", Since: p.At.Add(-time.Minute), Last: p.At.Add(-time.Minute), Times: 2, Momentary: true},
	}
	p.PutAside = []PutAside{{"wal/quarantine/next-1", "torn"}}
	p.Clients = []ClientSeen{{"inhaler-6", nil, 0}, {"inhaler-7", ptr(p.At.Add(-3 * time.Hour)), 1234}, {"inhaler-8", ptr(p.At.Add(-time.Second)), 99}}
	p.Status.Summary = p.summarize()
	return p
}

func renderPage(t *testing.T, p Page) string {
	t.Helper()
	var b strings.Builder
	if err := pageTemplate.Execute(&b, newView(p, false)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// withoutTags returns the visible text with single spaces.
func withoutTags(page string) string {
	page = regexp.MustCompile(`(?s)<style>.*?</style>|<title>.*?</title>|<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(page)), " ")
}

func TestThePageShowsTheVerdict(t *testing.T) {
	full, zone := finePage(), finePage().At.Format("MST")
	full.Verdict, full.Unready, full.Backlog.SecondsUntilFull = Failing, []string{"the log is full"}, ptr(0.0)
	full.Reasons = []Reason{{Failing, "log", "the log is full", ""}}
	for name, c := range map[string]struct {
		page Page
		want []string
	}{
		"fine": {finePage(), []string{
			"Fine 123 usages/s come in; 512 usages wait, the oldest for 12 s.", "on edge-1 , running for 7 d 3 h", "2026-11-23 12:00:00 " + zone + " · refreshes every 10 s",
			"Last success 17 s ago", "Confirmed 2,016 objects, 9 GiB, 14.2 KiB/s", "p50 2.1 ms, p99 16.3 ms", "the log does not fill", "Free on the disk 80 GiB",
			"32 % of wal.max_bytes is used: 1.27 GiB of 4 GiB", "log: to be shipped 400 MiB", "kept for a while 700 MiB", "spool 128 MiB", "quarantine 72 MiB", "free 2.73 GiB",
			"rejected: invalid_json 600 0 2", "rejected: unauthorized 78 0 0", "rejected: overloaded 0 10 0", "dropped: commit_failed 0 10 0", "Never: log_full.",
			"the kernel dropped – 17", "received 72,345,678 1,000", "shipped confirmed by the storage 72,344,468", "Certificate expires in 90 d", "Ready for traffic yes",
		}},
		"outage": {outagePage(), []string{
			"Failing 2345678 usages wait", "Failing: can't ship to s3://usages/prod", "Warning: the log is full in 5 h What to do: see to the destination",
			"Fails for 3 h 12 min , since 08:48, 214 attempts", "connection refused (network) put dt=2026-11-23/hour=08/edge-1: dial tcp 127.0.0.1:9000: connect: connection refused What to do", "Next attempt in 19 s", "full in 5 h 36 min if it goes on like this",
			"shipping : can't ship (connection refused) – for 3 h 12 min, 214 times", "unauthorized : a client has no valid token – 2 times, last 1 min ago",
			"Put aside, for people to see to wal/quarantine/next-1: torn", "inhaler-6 never since the start 0 inhaler-7 3 h ago 1,234 inhaler-8 1 s ago 99",
		}},
		"full":     {full, []string{"Failing: the log is full", "Forecast it is full", "Ready for traffic no : the log is full"}},
		"starting": {Page{Status: Status{Verdict: Starting, Summary: "the daemon is starting"}}, []string{"Starting The daemon is starting."}},
		"start":    {Page{Status: Status{Verdict: Failing, Reasons: []Reason{{Failing, "start", "the disk hangs", ""}}}}, []string{"Failing: the disk hangs"}},
	} {
		t.Run(name, func(t *testing.T) {
			page := renderPage(t, c.page)
			seen := withoutTags(page)
			if strings.Contains(seen, "Destination") != (c.page.Fill.MaxBytes > 0) {
				t.Errorf("figures before the log is open, or none after: %s", seen)
			}
			for _, want := range c.want {
				if !strings.Contains(seen, want) {
					t.Errorf("the page lacks %q: %s", want, seen)
				}
			}
			if !strings.Contains(page, "<title>"+sentence(string(c.page.Verdict))+" – ") {
				t.Error("the title does not begin with the verdict")
			}
		})
	}
}

// Names that strangers chose are escaped and truncated everywhere on the page.
func TestNamesFromStrangersAreEscapedAndTruncated(t *testing.T) {
	evil := `"'><script>alert(1)</script><b onx=1>` + strings.Repeat("x", 10*maxTextChars)
	p := outagePage()
	many := func(n int) map[string]uint64 {
		by := map[string]uint64{evil: 1}
		for i := range n {
			by[fmt.Sprint(evil, i)] = uint64(i)
		}
		return by
	}
	s := &p.Status
	s.Version, s.Node, s.LogID, s.Summary, s.Unready = evil, evil, evil, evil, []string{evil}
	s.Reasons = []Reason{{Failing, evil, evil, evil}}
	s.Destination.Where, s.Destination.Storage, *s.Destination.Error = evil, StorageStatus{evil, evil, evil}, ErrorStatus{evil, evil, evil, true}
	s.Troubles = []Trouble{{Name: evil, Message: evil, Error: evil, Advice: evil, Since: s.Since, Last: s.At}}
	s.Sources[0].Source, s.Uploads.Failures = evil, many(1000)
	s.Ledger.HTTP.Rejected, s.Ledger.UDP.Dropped = many(0), map[string]uint64{evil: 0}
	s.PutAside, s.Clients = nil, nil
	s.ClientsKnown = 1000
	for range 1000 {
		s.PutAside, s.PutAsideKnown = append(s.PutAside, PutAside{evil, evil}), s.PutAsideKnown+1
		s.Clients = append(s.Clients, ClientSeen{evil, ptr(s.At), 1})
	}
	page := renderPage(t, p)
	if strings.Contains(page, "<script") || strings.Contains(page, "<b on") {
		t.Error("a stranger's name became markup")
	}
	if strings.Contains(page, strings.Repeat("x", maxTextChars+1)) {
		t.Error("a stranger's text is not truncated")
	}
	if len(page) > 256<<10 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if strings.Count(withoutTags(page), "1,000 in all") != 2 {
		t.Error("the page lacks the number of segments put aside, or of clients")
	}
}

// The Content-Security-Policy allows only the page's own style.
func TestTheContentPolicyAllowsOnlyThePagesOwnStyle(t *testing.T) {
	url := serve(t, healthyOptions())
	for target, refreshes := range map[string]string{"/": "10", "/?paused": ""} {
		resp, err := http.Get(url + target)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err)
		}
		style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindSubmatch(body)
		if style == nil {
			t.Fatal("the page has no style")
		}
		hash := sha256.Sum256(style[1])
		want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		if got := resp.Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("the policy is %s, want %s", got, want)
		}
		if got := resp.Header.Get("Refresh"); got != refreshes {
			t.Errorf("%s refreshes %q, want %q", target, got, refreshes)
		}
		for _, never := range []string{"<script", "style=", "http://", "https://", "src=", "<link", "@import"} {
			if strings.Contains(strings.ReplaceAll(string(body), "s3://usages/prod at http://127.0.0.1:9000", ""), never) {
				t.Errorf("%s contains %s", target, never)
			}
		}
	}
}

// Browsers reload the page all the time, so it has to be cheap.
func TestThePageCostsLittle(t *testing.T) {
	p := outagePage()
	for i := range p.hour { // no curve is flat
		x := float64(i * 7919 % 997)
		p.hour[i] = interval{x, x / 3, x / 1e5, x / 1e4, x * 1e3, float64(i % 2)}
	}
	var body strings.Builder
	fastest := time.Hour
	render := func() {
		body.Reset()
		began := time.Now()
		if err := pageTemplate.Execute(&body, newView(p, false)); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(began))
	}
	allocations := testing.AllocsPerRun(20, render)
	if !strings.Contains(body.String(), fmt.Sprintf(`viewBox="0 0 %d %d"`, intervals, plotHeight)) {
		t.Error("the page does not show the coordinates of a plot")
	}
	t.Logf("a page of %d bytes: %v, %.0f allocations", body.Len(), fastest, allocations)
	if body.Len() > 64<<10 {
		t.Errorf("the page has %d bytes", body.Len())
	}
	if allocations > 20_000 {
		t.Errorf("a page takes %.0f allocations", allocations)
	}
}
