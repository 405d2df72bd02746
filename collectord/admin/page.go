package admin

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"collectord/collectord/units"
)

// refresh is the interval at which the status page reloads itself.
const refresh = 10 * time.Second

// Limits of lists and texts on the page. GET /status returns the complete ones.
const (
	maxListed    = 20  // items per list
	maxTextChars = 300 // characters per text
)

// Page is the content of the status page.
type Page struct {
	Status
	hour []interval // the oldest interval first
}

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

//nolint:gochecknoglobals // parsed once, never changed
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes": anyBytes, "count": count, "number": units.Number, "rate": rateText, "latency": latencyOrDash, "seconds": secondsText,
	"short": shortened, "cause": cause, "plural": plural, "upper": strings.ToUpper, "sentence": sentence,
}).Parse(pageText))

// pageSecurity returns a Content-Security-Policy that forbids all resources and
// scripts. It allows only the style sheet embedded in the page.
func pageSecurity() string {
	hash := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	paused := r.URL.Query().Has("paused")
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, newView(s.opts.Page(), paused)); err != nil {
		http.Error(w, "the status page can't be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageSecurity())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if !paused {
		h.Set("Refresh", strconv.Itoa(int(refresh/time.Second)))
	}
	_, _ = body.WriteTo(w) // an error means that the client is gone
}

// view is the data of the template.
type view struct {
	Status
	Paused  bool
	Refresh int // in seconds
	Style   template.CSS
	Plots   []plot
}

func newView(p Page, paused bool) *view {
	return &view{
		Status: p.Status, Paused: paused, Refresh: int(refresh / time.Second),
		Style: template.CSS(pageStyle),
		Plots: plots(p.hour),
	}
}

func plots(hour []interval) []plot {
	of := func(name, kind string, read func(*interval) float64) points {
		p := points{name: name, kind: kind}
		for i := range hour {
			p.values = append(p.values, read(&hour[i]))
		}
		return p
	}
	objects := of("", "bars", func(i *interval) float64 { return i.objects })
	objects.values = minutes(objects.values)
	return []plot{
		newPlot("Usages in", rateText,
			of("accepted", "main", func(i *interval) float64 { return i.accepted }),
			of("rejected, dropped", "second", func(i *interval) float64 { return i.refused })),
		newPlot("Commit latency", latencyText,
			of("p50", "main", func(i *interval) float64 { return i.p50 }),
			of("p99", "second", func(i *interval) float64 { return i.p99 })),
		newPlot("Backlog in usages", units.Number, of("", "main", func(i *interval) float64 { return i.backlog })),
		newPlot("Objects a minute", units.Number, objects),
	}
}

// HasFigures reports whether the log is open. There are no figures to show before that.
func (v *view) HasFigures() bool { return v.Fill.MaxBytes > 0 }

// Lead returns the sentence below the verdict. If there are reasons, the page lists
// them separately, so Lead describes only the backlog.
func (v *view) Lead() string {
	if len(v.Reasons) > 0 {
		return v.describeBacklog()
	}
	return v.Summary
}

// Clock returns the time of the page.
func (v *view) Clock() string { return v.At.Local().Format("2006-01-02 15:04:05 MST") }

// Running returns how long the daemon has been running.
func (v *view) Running() string { return durationText(v.At.Sub(v.Since)) }

// Ago returns the time from t to the page's time, followed by "ago".
func (v *view) Ago(t time.Time) string { return durationText(v.At.Sub(t)) + " ago" }

// For returns the time from t to the page's time.
func (v *view) For(t time.Time) string { return durationText(v.At.Sub(t)) }

// In returns the time from the page's time to t, preceded by "in".
func (v *view) In(t time.Time) string { return "in " + durationText(t.Sub(v.At)) }

// OfDay returns the time of day of t, with the date if it is another day.
func (v *view) OfDay(t time.Time) string { return clock(t, v.At) }

// counted is a name with a count.
type counted struct {
	Name string
	N    uint64
}

// Failures returns the kinds of failed uploads, the most frequent first.
func (v *view) Failures() (all []counted) {
	for kind, n := range v.Uploads.Failures {
		all = append(all, counted{printable(kind), n})
	}
	slices.SortFunc(all, func(a, b counted) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name)) })
	return all[:min(len(all), maxListed)]
}

// ledgerRow is one line of the ledger, with a count per source.
type ledgerRow struct {
	Name, Meaning string
	HTTP, UDP     uint64
}

func sum(by map[string]uint64) (n uint64) {
	for _, v := range by {
		n += v
	}
	return n
}

// LedgerRows returns the lines of the ledger that are counted per source.
func (v *view) LedgerRows() []ledgerRow {
	h, u := &v.Ledger.HTTP, &v.Ledger.UDP
	return []ledgerRow{
		{"received", "", h.Received, u.Received},
		{"rejected", "", sum(h.Rejected), sum(u.Rejected)},
		{"accepted", "", h.Accepted, u.Accepted},
		{"repeated", "", h.Repeated, u.Repeated},
		{"dropped", "", sum(h.Dropped), sum(u.Dropped)},
		{"waiting", "for a commit", h.Waiting, u.Waiting},
		{"appended", "to the log", h.Appended, u.Appended},
	}
}

// refusal is a reason for rejected or dropped usages, with counts since the start and
// in the last minute.
type refusal struct {
	What, Reason string
	HTTP, UDP    uint64
	Recent       uint64
}

// Refusals returns the reasons that occurred since the start, the most frequent first.
// Unused returns the others.
func (v *view) Refusals() (all []refusal) {
	add := func(what string, http, udp map[string]uint64, recent func(*SourceStatus) map[string]uint64) {
		for _, reason := range reasons(http, udp) {
			r := refusal{what, printable(reason), http[reason], udp[reason], 0}
			for i := range v.Sources {
				r.Recent += recent(&v.Sources[i])[reason]
			}
			if r.HTTP+r.UDP > 0 {
				all = append(all, r)
			}
		}
	}
	l := &v.Ledger
	add("rejected", l.HTTP.Rejected, l.UDP.Rejected, func(s *SourceStatus) map[string]uint64 { return s.Rejected })
	add("dropped", l.HTTP.Dropped, l.UDP.Dropped, func(s *SourceStatus) map[string]uint64 { return s.Dropped })
	slices.SortStableFunc(all, func(a, b refusal) int { return cmp.Compare(b.HTTP+b.UDP, a.HTTP+a.UDP) })
	return all
}

// Unused lists the reasons that have not occurred since the start.
func (v *view) Unused() string {
	var names []string
	l := &v.Ledger
	for _, by := range [][2]map[string]uint64{{l.HTTP.Rejected, l.UDP.Rejected}, {l.HTTP.Dropped, l.UDP.Dropped}} {
		for _, reason := range reasons(by[0], by[1]) {
			if by[0][reason]+by[1][reason] == 0 {
				names = append(names, shortened(printable(reason)))
			}
		}
	}
	return strings.Join(names, ", ")
}

// reasons returns the keys of both maps, sorted.
func reasons(a, b map[string]uint64) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

// share is a part of wal.max_bytes.
type share struct {
	Name, Pattern string
	Bytes         int64
	X, Width      string // of the bar, as a percentage
}

// Shares returns the parts of wal.max_bytes, including the free part.
func (v *view) Shares() []share {
	f := &v.Fill
	all := []share{
		{Name: "log: to be shipped", Pattern: "solid", Bytes: f.LogBytes - f.KeptBytes},
		{Name: "log: shipped, kept for a while", Pattern: "stripes", Bytes: f.KeptBytes},
		{Name: "spool", Pattern: "dots", Bytes: f.SpoolBytes},
		{Name: "quarantine", Pattern: "checks", Bytes: f.QuarantineBytes},
		{Name: "free", Pattern: "none", Bytes: max(0, f.MaxBytes-f.UsedBytes)},
	}
	total, x := float64(max(1, f.UsedBytes, f.MaxBytes)), 0.0
	for i := range all {
		part := 100 * float64(max(0, all[i].Bytes)) / total
		all[i].X, all[i].Width = fmt.Sprintf("%.2f%%", x), fmt.Sprintf("%.2f%%", part)
		x += part
	}
	return all
}

// Full describes when the log will be full.
func (v *view) Full() string {
	switch left := v.Backlog.SecondsUntilFull; {
	case left == nil:
		return "the log does not fill"
	case *left <= 0:
		return "it is full"
	default:
		return "full in " + secondsText(*left) + " if it goes on like this"
	}
}

// Percent returns the used percentage of wal.max_bytes.
func (v *view) Percent() string {
	return fmt.Sprintf("%.0f %%", 100*float64(v.Fill.UsedBytes)/float64(max(1, v.Fill.MaxBytes)))
}

// Seen returns the first clients of the list, limited to maxListed.
func (v *view) Seen() []ClientSeen { return v.Clients[:min(len(v.Clients), maxListed)] }

// Aside returns the first files and directories that were put aside, limited to
// maxListed.
func (v *view) Aside() []PutAside { return v.PutAside[:min(len(v.PutAside), maxListed)] }
