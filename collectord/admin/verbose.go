package admin

import (
	"fmt"
	"strings"
	"time"
)

// verbose returns the additional text of /readyz?verbose: one line for the verdict, a
// failing destination, each trouble, and each file or directory that was put aside.
func (s *Status) verbose() string {
	var b strings.Builder
	line := func(name string, parts ...string) {
		b.WriteString("\n" + name + ": " + strings.Join(parts, "; "))
	}
	line("verdict", string(s.Verdict), s.Summary)
	if d := &s.Destination; d.FailingSince != nil {
		parts := []string{"failing since " + rfc3339(*d.FailingSince), "error: " + d.Error.Text}
		if d.Error.Advice != "" {
			parts = append(parts, "advice: "+d.Error.Advice)
		}
		if d.LastSuccess != nil {
			parts = append(parts, "last success "+rfc3339(*d.LastSuccess))
		}
		if d.NextAttempt != nil {
			parts = append(parts, "next attempt "+rfc3339(*d.NextAttempt))
		}
		line("destination "+d.Where, parts...)
	}
	for _, t := range s.Troubles {
		parts := []string{t.Message, "since " + rfc3339(t.Since), fmt.Sprintf("times %d", t.Times)}
		if t.Error != "" {
			parts = append(parts, "error: "+t.Error)
		}
		if t.Advice != "" {
			parts = append(parts, "advice: "+t.Advice)
		}
		line("trouble "+t.Name, parts...)
	}
	for _, p := range s.PutAside {
		what := fmt.Sprintf("%q", p.Path)
		if p.Reason != "" {
			what += fmt.Sprintf(": %q", p.Reason)
		}
		line("put aside", what)
	}
	if more := s.PutAsideKnown - len(s.PutAside); more > 0 {
		line("put aside", fmt.Sprintf("%d more (collectord wal ls)", more))
	}
	return b.String()
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
