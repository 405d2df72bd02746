package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"collectord/wal"
)

// Results of Options.Ready while the daemon starts and stops. Any other result is a
// failure.
const (
	ReadyStarting = "starting"
	ReadyDraining = "draining"
)

// Thresholds of the verdict. docs/status.md lists them.
const (
	failingAfter     = 5 * time.Minute  // a storage error that lasts longer is Failing
	fullSoon         = time.Hour        // Failing
	fullWithin       = 24 * time.Hour   // Warning
	backlogOld       = 10 * time.Minute // minimum age of the oldest usage for a forecast of a full log
	oldestLate       = time.Hour        // Warning
	oldestOverdue    = 24 * time.Hour   // Failing; the default of collectord audit's --grace
	certificateLate  = 14 * 24 * time.Hour
	minRejected      = 10  // minimum number of rejected usages per minute for a Warning,
	minRejectedShare = 0.1 // and their minimum share of all received usages
)

func (v Verdict) severity() int {
	return slices.Index([]Verdict{Fine, Starting, Warning, Failing}, v)
}

func (s *Status) judge(hasFigures bool) {
	s.Reasons = []Reason{}
	s.judgeReadiness()
	s.judgeDestination()
	s.judgeTroubles()
	s.judgeBacklog()
	s.judgeSources()
	s.judgeRest()
	slices.SortStableFunc(s.Reasons, func(a, b Reason) int { return b.Verdict.severity() - a.Verdict.severity() })
	switch {
	case len(s.Reasons) > 0:
		s.Verdict = s.Reasons[0].Verdict
	case !hasFigures:
		s.Verdict = Starting
	default:
		s.Verdict = Fine
	}
	s.Summary = s.summarize()
}

func (s *Status) addReason(v Verdict, name, text, advice string) {
	s.Reasons = append(s.Reasons, Reason{v, name, text, advice})
}

// troublesOfLog returns the names of troubles that explain why the log accepts no
// usages.
func troublesOfLog() []string { return []string{"full", "commit", "start"} }

func (s *Status) judgeReadiness() {
	explained := slices.ContainsFunc(s.Troubles, func(t Trouble) bool { return slices.Contains(troublesOfLog(), t.Name) })
	for _, why := range s.Unready {
		switch {
		case why == ReadyStarting:
		case why == ReadyDraining:
			s.addReason(Warning, "stopping", "the daemon is stopping", "")
		case !explained:
			s.addReason(Failing, "log", why, "")
		}
	}
}

func (s *Status) judgeDestination() {
	d := &s.Destination
	if d.FailingSince == nil {
		if d.SilentSince != nil {
			s.addReason(Warning, "silent", fmt.Sprintf("%s has acknowledged and answered nothing for %s", d.Where, ShortDuration(s.At.Sub(*d.SilentSince))),
				"see whether the storage hangs, and whether a firewall drops packets")
		}
		return
	}
	v := Warning
	if d.Error.Permanent || s.At.Sub(*d.FailingSince) > failingAfter {
		v = Failing
	}
	next := "trying now"
	if d.NextAttempt != nil {
		next = "next attempt in " + ShortDuration(d.NextAttempt.Sub(s.At))
	}
	for i := range s.Troubles {
		if s.Troubles[i].Name == TroubleShipping {
			s.Troubles[i].Verdict = v
		}
	}
	s.addReason(v, "destination", fmt.Sprintf("can't ship to %s since %s (%s), %s", d.Where, clock(*d.FailingSince, s.At), cause(d.Error.Text), next), d.Error.Advice)
}

func (s *Status) judgeTroubles() {
	for _, t := range s.Troubles {
		if t.Verdict == Fine || s.Destination.FailingSince != nil && slices.Contains(troublesOfStorage(), t.Name) {
			continue
		}
		text := t.Message
		if t.Error != "" {
			text += " (" + cause(t.Error) + ")"
		}
		s.addReason(t.Verdict, t.Name, fmt.Sprintf("%s, since %s", text, clock(t.Since, s.At)), t.Advice)
	}
}

// TroubleShipping is the name of the shipper's trouble with a failing storage.
// Status.Destination has the details.
const TroubleShipping = "shipping"

// troublesOfStorage returns the names of troubles that a failing storage causes.
func troublesOfStorage() []string {
	return []string{TroubleShipping, "storage_check", "heartbeat", "last look"}
}

func (s *Status) judgeBacklog() {
	b := &s.Backlog
	oldest := time.Duration(b.OldestSeconds * float64(time.Second))
	if full := b.SecondsUntilFull; full != nil && *full > 0 && s.isForecastRelevant() {
		left := time.Duration(min(*full, fullWithin.Seconds()+1) * float64(time.Second))
		text, advice := "the log is full in "+ShortDuration(left), "see to the destination, or raise wal.max_bytes"
		switch {
		case left < fullSoon:
			s.addReason(Failing, "full_soon", text, advice)
		case left < fullWithin:
			s.addReason(Warning, "full_soon", text, advice)
		}
	}
	text := "the oldest usage that is not shipped has waited for " + ShortDuration(oldest)
	switch {
	case oldest > oldestOverdue:
		s.addReason(Failing, "overdue", text, "")
	case oldest > oldestLate:
		s.addReason(Warning, "overdue", text, "")
	}
}

// isForecastRelevant reports whether usages are not being shipped. A burst that is being
// shipped does not fill the log.
func (s *Status) isForecastRelevant() bool {
	return s.Backlog.OldestSeconds > backlogOld.Seconds() || s.Destination.FailingSince != nil
}

// isOwnFault reports whether the daemon, not the client, caused a rejection.
func isOwnFault(reason string) bool {
	switch reason {
	case wal.ReasonLogFull, wal.ReasonOverloaded, wal.ReasonCommitFailed, wal.ReasonUnstorable, "internal":
		return true
	}
	return false
}

// isAccessDenied reports whether a usage was rejected because its sender has no access.
// Any host can cause such rejections, so they do not affect the verdict.
func isAccessDenied(reason string) bool {
	return reason == "unauthorized" || reason == "cross_site" || reason == "not_allowed"
}

func (s *Status) judgeSources() {
	for _, in := range s.Sources {
		own, others := map[string]uint64{}, map[string]uint64{}
		rejected := uint64(0)
		for reason, n := range in.Rejected {
			switch {
			case isOwnFault(reason):
				own[reason] = n
			case reason != wal.ReasonShuttingDown && !isAccessDenied(reason):
				others[reason] = n
				rejected += n
			}
		}
		by := strings.ToUpper(in.Source)
		if len(in.Dropped) > 0 {
			s.addReason(Failing, "dropped", fmt.Sprintf("usages that came by %s were lost in the last minute: %s", by, counts(in.Dropped)), "")
		}
		if len(own) > 0 {
			s.addReason(Warning, "rejected", fmt.Sprintf("usages that came by %s were rejected in the last minute: %s", by, counts(own)), "")
		}
		if in.KernelDrops > 0 {
			s.addReason(Warning, "kernel_drops", fmt.Sprintf("the kernel dropped %d datagrams in the last minute", in.KernelDrops), "raise udp.receive_buffer and net.core.rmem_max")
		}
		if received := in.PerSecond * s.WindowSeconds; rejected >= minRejected && float64(rejected) >= minRejectedShare*received {
			s.addReason(Warning, "invalid", fmt.Sprintf("%d of the %.0f usages that came by %s in the last minute were rejected: %s", rejected, received, by, counts(others)), "see what the clients send: each answer names what is wrong")
		}
	}
}

// counts lists the names with their counts, the most frequent first.
func counts(by map[string]uint64) string {
	var parts []string
	for _, name := range slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b], by[a]), strings.Compare(a, b))
	}) {
		parts = append(parts, fmt.Sprintf("%d %s", by[name], printable(name)))
	}
	return strings.Join(parts, ", ")
}

// asideText describes how many files were put aside, and how many usages were damaged.
func asideText(n int, first string, damaged uint64) string {
	text := fmt.Sprintf("%d files or directories were put aside; the first is %s", n, first)
	if n == 1 {
		text = first + " was put aside"
	}
	if damaged > 0 {
		text += fmt.Sprintf("; damaged since the start and not shipped: %d usages", damaged)
	}
	return text
}

func (s *Status) judgeRest() {
	if n := s.PutAsideKnown; len(s.PutAside) > 0 {
		s.addReason(Warning, "put_aside", asideText(n, s.PutAside[0].Path, s.Ledger.Quarantined), "collectord wal ls shows them, collectord wal acknowledge ends this warning")
	}
	if !s.Reload.OK && !s.Reload.At.IsZero() {
		s.addReason(Warning, "reload", "the configuration could not be reloaded: that of "+clock(s.Reload.At, s.At)+" is in effect", "collectord config check")
	}
	if at := s.Connections.CertificateExpires; at != nil {
		switch left := at.Sub(s.At); {
		case left <= 0:
			s.addReason(Failing, "certificate", "the TLS certificate has expired", "replace http.tls.cert, and reload")
		case left < certificateLate:
			s.addReason(Warning, "certificate", "the TLS certificate expires in "+ShortDuration(left), "replace http.tls.cert, and reload")
		}
	}
}

// summarize returns the summary: the worst reason, or the rate of incoming usages,
// followed by the backlog.
func (s *Status) summarize() string {
	switch {
	case len(s.Reasons) > 0:
		return s.worst() + "; " + s.describeBacklog()
	case s.Verdict == Starting:
		return "the daemon is starting"
	}
	in := 0.0
	for _, source := range s.Sources {
		in += source.PerSecond
	}
	return Rate(in) + " usages/s come in; " + s.describeBacklog()
}

// worst returns the worst reason, and the number of other reasons.
func (s *Status) worst() string {
	if more := len(s.Reasons) - 1; more > 0 {
		return fmt.Sprintf("%s (and %d more)", s.Reasons[0].Text, more)
	}
	return s.Reasons[0].Text
}

// describeBacklog describes the backlog.
func (s *Status) describeBacklog() string {
	b := &s.Backlog
	if b.Usages == 0 {
		return "all is shipped"
	}
	text := fmt.Sprintf("%d usages wait, the oldest for %s", b.Usages, ShortDuration(time.Duration(b.OldestSeconds*float64(time.Second))))
	if full := b.SecondsUntilFull; full != nil && *full > 0 && *full < 10*fullWithin.Seconds() && s.isForecastRelevant() {
		text += ", full in " + ShortDuration(time.Duration(*full*float64(time.Second)))
	}
	return text
}

// line returns the Status in one line: the worst reason and what to do about it, the last
// success of a failing destination, the backlog, and the rates of incoming usages. A line fits
// into a message of 4,096 bytes: the service manager ignores a longer one.
func (s *Status) line() string {
	if s.Verdict == Starting {
		return s.Summary
	}
	var parts []string
	if len(s.Reasons) > 0 {
		parts = append(parts, shortened(s.worst()))
		if advice := s.Reasons[0].Advice; advice != "" {
			parts = append(parts, "what to do: "+shortened(advice))
		}
	}
	if d := &s.Destination; d.FailingSince != nil {
		success := "no success since the start"
		if d.LastSuccess != nil {
			success = "last success " + clock(*d.LastSuccess, s.At)
		}
		parts = append(parts, success)
	}
	rates := make([]string, len(s.Sources))
	for i, source := range s.Sources {
		rates[i] = Rate(source.Now) + " by " + strings.ToUpper(source.Source)
	}
	parts = append(parts, s.describeBacklog(), "usages/s: "+strings.Join(rates, ", "),
		fmt.Sprintf("log %d %% full", 100*s.Fill.UsedBytes/max(1, s.Fill.MaxBytes)))
	return strings.Join(parts, "; ")
}
