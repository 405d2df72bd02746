package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"collectord/collectord/admin"
	"collectord/collectord/units"
)

// writeStatus writes a Status as text: the verdict first, then the rows.
func writeStatus(out io.Writer, s *admin.Status) error {
	writef(out, "%s: %s\n", strings.ToUpper(string(s.Verdict)), s.Summary)
	for i, r := range s.Reasons {
		if i > 0 { // the summary contains the first
			writef(out, "%s: %s\n", strings.ToUpper(string(r.Verdict)), r.Text)
		}
		if r.Advice != "" {
			writef(out, "  what to do: %s\n", r.Advice)
		}
	}
	writef(out, "\n")
	rows := statusRows{table: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), now: s.At}
	rows.daemon(s)
	if s.LogID != "" { // otherwise nothing is known yet
		rows.traffic(s)
		rows.log(s)
	}
	rows.storage(s)
	rows.troubles(s)
	if s.LogID != "" {
		rows.ledger(&s.Ledger)
	}
	return rows.table.Flush()
}

// statusRows writes the rows of a Status. A row without a title continues the previous
// one.
type statusRows struct {
	table *tabwriter.Writer
	now   time.Time
}

func (r *statusRows) row(title string, parts ...string) {
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	if len(parts) > 0 {
		writef(r.table, "%s\t", title)
		writef(r.table, "%s\n", commaList(parts))
	}
}

// at formats a time and its age.
func (r *statusRows) at(t time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.Local().Format("2006-01-02 15:04:05"), admin.ShortDuration(r.now.Sub(t)))
}

func (r *statusRows) daemon(s *admin.Status) {
	log := "no log yet"
	if s.LogID != "" {
		log = "log " + s.LogID
	}
	r.row("daemon", "collectord "+s.Version, "node "+nodeName(s.Node).String(), log)
	r.row("started", r.at(s.Since))
	ready := "yes"
	if len(s.Unready) > 0 {
		ready = "no: " + commaList(s.Unready)
	}
	r.row("ready", ready)
	if !s.Reload.At.IsZero() {
		loaded := r.at(s.Reload.At)
		if !s.Reload.OK {
			loaded += ", and the last reload failed"
		}
		r.row("configuration", "of "+loaded)
	}
}

func (r *statusRows) traffic(s *admin.Status) {
	for _, in := range s.Sources {
		r.row("in by "+strings.ToUpper(in.Source), admin.Rate(in.PerSecond)+" usages/s", "now "+admin.Rate(in.Now),
			countsText("rejected", in.Rejected), countsText("dropped", in.Dropped), countText("kernel drops", in.KernelDrops))
	}
	c := &s.Connections
	tls := ""
	if c.TLS > 0 || c.CertificateExpires != nil {
		tls = fmt.Sprintf("%d of %d with TLS", c.TLS, c.MaxTLS)
	}
	expires := ""
	if c.CertificateExpires != nil {
		expires = "certificate until " + c.CertificateExpires.Local().Format(time.DateOnly)
	}
	r.row("connections", fmt.Sprintf("%d of %d", c.Open, c.Max), tls, countText("made room", c.ClosedForRoom), countText("turned away", c.Refused), expires)
	r.clients(s)
	r.row("commits", admin.Rate(s.Commits.PerSecond)+"/s", fmt.Sprintf("%.1f usages and %s each", s.Commits.Usages, units.Bytes(int64(s.Commits.Bytes))),
		quantilesText("commit", s.Commits.P50, s.Commits.P99), quantilesText("fsync", s.Commits.FsyncP50, s.Commits.FsyncP99), countText("errors", s.Commits.Errors))
}

// Maximum numbers of listed items in the text.
const (
	maxListedClients = 10
	maxListedAside   = 10
)

// clients lists the clients that have been silent longest.
func (r *statusRows) clients(s *admin.Status) {
	title := "clients"
	for i, client := range s.Clients {
		if i == maxListedClients {
			r.row("", fmt.Sprintf("%d more, seen later or never (--json)", s.ClientsKnown-i))
			return
		}
		last := "never since the start"
		if client.LastSeen != nil {
			last = "last " + r.at(*client.LastSeen)
		}
		r.row(title, client.Name, plural(int(client.Usages), "usage"), last)
		title = ""
	}
}

func (r *statusRows) log(s *admin.Status) {
	b := &s.Backlog
	if b.Usages == 0 {
		r.row("backlog", "none: all is shipped")
	} else {
		r.row("backlog", fmt.Sprintf("%d usages", b.Usages), units.Bytes(b.Bytes), "the oldest for "+admin.ShortDuration(toDuration(b.OldestSeconds)))
	}
	until := "not filling"
	if b.SecondsUntilFull != nil {
		if until = "full in " + admin.ShortDuration(toDuration(*b.SecondsUntilFull)); *b.SecondsUntilFull == 0 {
			until = "full"
		}
	}
	f := &s.Fill
	r.row("log", fmt.Sprintf("%d %% of %s used", 100*f.UsedBytes/max(1, f.MaxBytes), units.Bytes(f.MaxBytes)), until, "segments "+units.Bytes(f.LogBytes), sizeText("spool", f.SpoolBytes), sizeText("quarantine", f.QuarantineBytes))
	if f.FreeBytes != nil {
		r.row("disk", units.Bytes(*f.FreeBytes)+" free")
	}
	if s.Kept.Segments > 0 || s.Kept.CutShort > 0 {
		r.row("kept", plural(s.Kept.Segments, "segment"), units.Bytes(s.Kept.Bytes), countText("removed early", s.Kept.CutShort))
	}
}

func (r *statusRows) storage(s *admin.Status) {
	d := &s.Destination
	if d.Where == "" {
		return
	}
	r.row("destination", d.Where)
	if d.LastSuccess != nil {
		r.row("last success", r.at(*d.LastSuccess))
	} else {
		r.row("last success", "none since the start")
	}
	if d.FailingSince != nil {
		r.row("failing since", r.at(*d.FailingSince), plural(d.Attempts, "attempt"))
		r.row("error", d.Error.Kind+": "+d.Error.Text)
		r.row("what to do", d.Error.Advice)
		next := "under way"
		if d.NextAttempt != nil {
			next = "in " + admin.ShortDuration(d.NextAttempt.Sub(r.now))
		}
		r.row("next attempt", next)
	}
	u := &s.Uploads
	r.row("uploads", fmt.Sprintf("%d objects", u.Objects), units.Bytes(int64(min(u.Bytes, math.MaxInt64))), units.Bytes(int64(u.BytesPerSecond))+"/s", fmt.Sprintf("%d in flight", u.InFlight),
		quantilesText("each", u.P50, u.P99), countsText("failed", u.Failures), countText("shipped again", u.Reshipped), countText("vanished", u.Vanished))
}

func (r *statusRows) troubles(s *admin.Status) {
	for _, t := range s.Troubles {
		if t.Name == admin.TroubleShipping && s.Destination.FailingSince != nil { // the rows of the storage contain it
			continue
		}
		failed := t.Message
		if t.Error != "" {
			failed += ": " + t.Error
		}
		r.row("trouble", t.Name, "since "+r.at(t.Since), plural(t.Times, "time"))
		r.row("", failed)
		r.row("", t.Advice)
	}
	for _, p := range s.PutAside[:min(len(s.PutAside), maxListedAside)] {
		r.row("put aside", p.Path, p.Reason)
	}
	if more := s.PutAsideKnown - maxListedAside; more > 0 {
		r.row("", fmt.Sprintf("%d more (collectord wal ls)", more))
	}
}

func (r *statusRows) ledger(l *admin.LedgerStatus) {
	for _, in := range []struct {
		title string
		admin.SourceLedger
	}{{"HTTP", l.HTTP}, {"UDP", l.UDP}} {
		r.row("ledger "+in.title, fmt.Sprintf("received %d", in.Received), fmt.Sprintf("accepted %d", in.Accepted), countsText("rejected", in.Rejected),
			fmt.Sprintf("appended %d", in.Appended), countText("repeated", in.Repeated), countsText("dropped", in.Dropped), countText("waiting", in.Waiting))
	}
	r.row("ledger", countText("recovered", l.Recovered), fmt.Sprintf("pending %d", l.Pending), fmt.Sprintf("shipped %d", l.Shipped),
		countText("quarantined", l.Quarantined), countText("evicted", l.Evicted))
}

func toDuration(n float64) time.Duration {
	return time.Duration(min(n, math.MaxInt32) * float64(time.Second))
}

// countsText lists the counts that are not zero, or returns "" if there are none.
func countsText(title string, by map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		if by[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[name], name))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return title + " " + strings.Join(parts, " and ")
}

// countText formats a number, or returns "" for zero.
func countText(title string, n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%s %d", title, n)
}

func sizeText(title string, n int64) string {
	if n == 0 {
		return ""
	}
	return title + " " + units.Bytes(n)
}

// quantilesText formats the median and the 99th percentile of a duration.
func quantilesText(what string, p50, p99 *float64) string {
	if p50 == nil || p99 == nil {
		return ""
	}
	return fmt.Sprintf("%s p50 %s p99 %s", what, millis(*p50), millis(*p99))
}

func millis(seconds float64) string {
	switch ms := seconds * 1000; {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", seconds)
}
