package auth

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func tokensOf(t *testing.T, names ...string) *Tokens {
	t.Helper()
	var file strings.Builder
	for _, name := range names {
		_, line := NewToken(name, 0)
		file.WriteString(line + "\n")
	}
	tokens, err := ParseTokens([]byte(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// knownClients returns name, usages and last seen second of each client, sorted by name.
func knownClients(c *Clients) string {
	var all []string
	for _, one := range c.Counts().Clients {
		seen := "never"
		if !one.LastSeen.IsZero() {
			seen = fmt.Sprint(one.LastSeen.Unix())
		}
		all = append(all, fmt.Sprintf("%s %d %s", one.Name, one.Usages, seen))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestTokensAreKnownFromTheStartAndKeepTheirCountsAcrossAReload(t *testing.T) {
	var c Clients
	at := func(second int64) time.Time { return time.Unix(second, 999) }
	expect := func(want string) {
		t.Helper()
		if got := knownClients(&c); got != want {
			t.Errorf("clients %s, want %s", got, want)
		}
	}
	c.Accepted("", 7, at(1)) // without a name
	expect("")
	c.SetTokens(tokensOf(t, "b", "a"))
	expect("a 0 never, b 0 never")
	c.Accepted("a", 3, at(10))
	c.Accepted("a", 0, at(12)) // a repeated request
	c.Accepted("certified", 2, at(11))
	expect("a 3 12, b 0 never, certified 2 11")
	c.SetTokens(tokensOf(t, "a", "c", "certified"))
	expect("a 3 12, c 0 never, certified 2 11")
	c.Accepted("certified", 1, at(13))
	expect("a 3 12, c 0 never, certified 3 13")
	c.SetTokens(nil)
	expect("")
}

func TestLeastRecentlySeenCertificatesAreEvictedAndCounted(t *testing.T) {
	var c Clients
	c.SetTokens(tokensOf(t, "token"))
	now := time.Unix(1, 0)
	for i := range MaxCertificates {
		c.Accepted(fmt.Sprint("n", i), 1, now)
	}
	c.Accepted("n0", 1, now)
	c.Accepted("one more", 1, now)
	counts := c.Counts()
	has := func(name string) bool {
		return slices.ContainsFunc(counts.Clients, func(k Client) bool { return k.Name == name })
	}
	if len(counts.Clients) != MaxCertificates+1 || counts.Evicted != 1 || !has("n0") || has("n1") || !has("one more") || !has("token") {
		t.Errorf("%d clients, %d evicted", len(counts.Clients), counts.Evicted)
	}
}

// A counter that decreases looks like a restart, so the rest includes removed clients.
func TestSeriesAreLimitedAndTheRestNeverDecreases(t *testing.T) {
	var c Clients
	var names []string
	for i := range MaxOwnSeries + 2 {
		names = append(names, fmt.Sprintf("t%04d", i))
	}
	c.SetTokens(tokensOf(t, names...))
	for i, name := range append(names, "certified") {
		c.Accepted(name, i, time.Unix(1, 0))
	}
	own := func(counts ClientCounts) (n int) {
		for _, k := range counts.Clients {
			if k.OwnSeries {
				n++
			}
		}
		return n
	}
	const rest = 1000 + 1001 + 1002
	if counts := c.Counts(); own(counts) != MaxOwnSeries || counts.Rest != rest {
		t.Errorf("%d series, %d usages in the rest", own(counts), counts.Rest)
	}
	c.SetTokens(tokensOf(t, append(names[10:MaxOwnSeries+1], "anew")...))
	if counts := c.Counts(); counts.Rest != rest || len(counts.Clients) != MaxOwnSeries-10+3 {
		t.Errorf("%d clients, %d usages in the rest", len(counts.Clients), counts.Rest)
	}
}

func TestCountingAClientAllocatesNothingAndLosesNothing(t *testing.T) {
	var c Clients
	c.SetTokens(tokensOf(t, "a"))
	c.Accepted("certified", 1, time.Unix(1, 0))
	now := time.Now()
	for _, name := range []string{"a", "certified"} {
		if n := testing.AllocsPerRun(100, func() { c.Accepted(name, 1, now) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				c.Accepted("a", 1, now.Add(time.Duration(i)*time.Second))
				c.Accepted("certified", 1, now)
			}
		})
	}
	all.Go(func() { c.SetTokens(tokensOf(t, "a", "b")) })
	all.Wait()
	if got, want := knownClients(&c), fmt.Sprintf("a 8101 %d, b 0 never, certified 8102 %d", now.Unix()+999, now.Unix()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func BenchmarkAccepted(b *testing.B) {
	for _, name := range []string{"a", "certified"} {
		b.Run(name, func(b *testing.B) {
			var c Clients
			_, line := NewToken("a", 0)
			tokens, err := ParseTokens([]byte(line))
			if err != nil {
				b.Fatal(err)
			}
			c.SetTokens(tokens)
			now := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c.Accepted(name, 1, now)
				}
			})
		})
	}
}

func TestClientsAreSortedByTheTimeTheyWereLastSeen(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	c := ClientCounts{Clients: []Client{{Name: "b"}, {Name: "late", LastSeen: at(9)}, {Name: "a"}, {Name: "y", LastSeen: at(3)}, {Name: "x", LastSeen: at(3)}}}
	c.SortByLastSeen()
	var names []string
	for _, k := range c.Clients {
		names = append(names, k.Name)
	}
	if got := strings.Join(names, " "); got != "x y late a b" {
		t.Errorf("the order is %s", got)
	}
}
