package origin

import (
	"bytes"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// request is a row: Host, and the other headers that are present.
type request struct {
	host    string
	headers []string // "Name: value", in any order
}

func (r request) parsed() (h Headers) {
	h.Authority = []byte(r.host)
	for _, line := range r.headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Origin" {
			h.Origin, h.Origins = []byte(value), h.Origins+1
		} else {
			h.Site, h.Sites = []byte(value), h.Sites+1
		}
	}
	return h
}

const (
	site     = "Sec-Fetch-Site: "
	from     = "Origin: "
	cross    = site + "cross-site"
	sameSite = site + "same-site"
)

// Each row has the expected result on a loopback listener without tokens, and the one on all
// other listeners.
func TestOnlySameHostPagesAndNonBrowsersMaySend(t *testing.T) {
	rows := []struct {
		host                string
		headers             []string
		loopback, elsewhere Reason
	}{
		// Programs: no Origin, no Sec-Fetch-Site.
		{"localhost:3000", nil, None, None},
		{"LocalHost", nil, None, None},
		{"localhost.", nil, None, None},
		{"localhost:", nil, None, None},
		{"127.0.0.1:3000", nil, None, None},
		{"127.8.9.10", nil, None, None},
		{"[::1]:3000", nil, None, None},
		{"[0:0:0:0:0:0:0:1]", nil, None, None},
		{"[::ffff:127.0.0.1]:3000", nil, None, None},
		{"[::FFFF:7f00:1]", nil, None, None},
		{"foo.localhost:3000", nil, None, None},
		{"a.b.LOCALHOST.", nil, None, None},
		{"", nil, None, None}, // HTTP/1.0 needs no Host
		{"evil.test:3000", nil, ForeignHost, None},
		{"x", nil, ForeignHost, None},
		{"localhost.evil.test", nil, ForeignHost, None},
		{"notlocalhost", nil, ForeignHost, None},
		{".localhost", nil, ForeignHost, None},
		{"localhost..", nil, ForeignHost, None},
		{".", nil, ForeignHost, None},
		{"evil.test@localhost", nil, ForeignHost, None},
		{"localhost@evil.test", nil, ForeignHost, None},
		{"localhost:3000@evil.test", nil, ForeignHost, None},
		{"localhost:evil", nil, ForeignHost, None},
		{"localhost:1:2", nil, ForeignHost, None},
		{"localhost/", nil, ForeignHost, None},
		{"localhost,evil.test", nil, ForeignHost, None},
		{"local%68ost", nil, ForeignHost, None},
		{"localhost evil", nil, ForeignHost, None},
		{"127.0.0.1.evil.test", nil, ForeignHost, None},
		{"127.0.0.01", nil, ForeignHost, None},
		{"127.0.0.256", nil, ForeignHost, None},
		{"127.0.0.1.1", nil, ForeignHost, None},
		{"127.1", nil, ForeignHost, None},
		{"2130706433", nil, ForeignHost, None},
		{"0.0.0.0:3000", nil, ForeignHost, None},
		{"[::]:3000", nil, ForeignHost, None},
		{"::1", nil, ForeignHost, None},
		{"[::1", nil, ForeignHost, None},
		{"[::1]x", nil, ForeignHost, None},
		{"[::1]]", nil, ForeignHost, None},
		{"[]", nil, ForeignHost, None},
		{"[127.0.0.1]", nil, ForeignHost, None},
		{"[::1%lo]", nil, ForeignHost, None},
		{"192.0.2.1:3000", nil, ForeignHost, None},

		// Pages that browsers report as same-origin, or without a site.
		{"localhost:3000", []string{site + "same-origin", from + "http://localhost:3000"}, None, None},
		{"usages.test", []string{site + "same-origin", from + "https://usages.test"}, None, None},
		{"localhost:3000", []string{site + "none"}, None, None},
		// With plain http to a host name, browsers send only Origin.
		{"usages.test:3000", []string{from + "http://usages.test:3000"}, ForeignHost, None}, // or DNS rebinding
		{"usages.test", []string{from + "http://usages.test:8080"}, ForeignHost, None},
		{"usages.test", []string{from + "https://USAGES.test"}, ForeignHost, None},
		{"usages.test.", []string{from + "http://usages.test"}, ForeignHost, None},
		{"usages.test", []string{from + "http://usages.test."}, ForeignHost, None},
		{"localhost:3000", []string{from + "http://localhost:8080"}, None, None},
		{"LOCALHOST:3000", []string{sameSite, from + "http://localhost:8080"}, None, None},
		{"127.0.0.1:3000", []string{from + "http://127.0.0.1"}, None, None},
		{"[::1]:3000", []string{from + "http://[::1]:8080"}, None, None},
		{"[0::1]:3000", []string{from + "http://[::1]"}, None, None},
		{"192.0.2.1", []string{from + "http://192.0.2.1:99"}, ForeignHost, None},
		{"localhost", []string{site + "new-word", from + "http://localhost"}, None, None},
		{"localhost", []string{site, from + "http://localhost"}, None, None},
		{"localhost", []string{site}, None, None}, // emptied by an intermediary

		// Pages of other sites.
		{"localhost:3000", []string{from + "http://evil.test"}, ForeignOrigin, ForeignOrigin},
		{"usages.test", []string{from + "http://evil.test"}, ForeignOrigin, ForeignOrigin},
		{"localhost:3000", []string{from + "http://127.0.0.1:3000"}, ForeignOrigin, ForeignOrigin},
		{"127.0.0.1", []string{from + "http://[::ffff:127.0.0.1]"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://foo.localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "null"}, ForeignOrigin, ForeignOrigin},
		{"null", []string{from + "null"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from}, ForeignOrigin, ForeignOrigin},
		{"", []string{from}, ForeignOrigin, ForeignOrigin},
		{"", []string{from + "http://localhost"}, ForeignOrigin, ForeignOrigin},
		{"", []string{from + "http://"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "file://"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "file://localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "app://localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "//localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http:localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost/"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost http://evil.test"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost, http://evil.test"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://evil.test@localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost@evil.test"}, ForeignOrigin, ForeignOrigin},
		{"evil.test@localhost", []string{from + "http://evil.test@localhost"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost.evil.test"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost:x"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{from + "http://localhost.."}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{sameSite, from + "http://evil.test"}, ForeignOrigin, ForeignOrigin},
		{"localhost", []string{cross, from + "http://evil.test"}, CrossSite, CrossSite},
		{"localhost", []string{cross, from + "https://localhost"}, CrossSite, CrossSite}, // another scheme
		{"localhost", []string{cross}, CrossSite, CrossSite},
		{"localhost", []string{site + "Cross-Site"}, CrossSite, CrossSite},
		{"localhost", []string{sameSite}, CrossSite, CrossSite},
		{"localhost", []string{site + "Same-Origin"}, CrossSite, CrossSite},
		{"localhost", []string{site + "same-origin, cross-site"}, CrossSite, CrossSite},
		{"localhost", []string{site + "new-word"}, CrossSite, CrossSite},

		// Repeated headers.
		{"localhost", []string{from + "http://localhost", from + "http://localhost"}, Repeated, Repeated},
		{"localhost", []string{from + "http://evil.test", from + "http://localhost"}, Repeated, Repeated},
		{"localhost", []string{site + "same-origin", site + "same-origin"}, Repeated, Repeated},
		{"localhost", []string{cross, site + "none"}, Repeated, Repeated},
		{"localhost", []string{site, site}, Repeated, Repeated},
	}
	for _, row := range rows {
		h := request{row.host, row.headers}.parsed()
		for loopback, want := range map[bool]Reason{true: row.loopback, false: row.elsewhere} {
			for name, rule := range map[string]*Rule{"no rule": nil, "another rule": NewRule([]string{"https://other.test"}, []string{"other.test"})} {
				if got := rule.Check(h, loopback); got != want {
					t.Errorf("%s: Host %q, %q, loopback %v: %q, want %q", name, row.host, row.headers, loopback, got, want)
				}
			}
		}
	}
}

func TestARuleAddsExactOriginsAndHosts(t *testing.T) {
	rule := NewRule(
		[]string{"null", "file://", "https://app.test:8443", "capacitor://localhost"},
		[]string{"usages.test", "192.0.2.1", "2001:db8::1", "not a name", ""})
	for _, row := range []struct {
		host    string
		headers []string
		want    Reason // on loopback
	}{
		{"localhost", []string{from + "null"}, None},
		{"localhost", []string{cross, from + "null"}, None},
		{"localhost", []string{cross, from + "file://"}, None},
		{"localhost", []string{cross, from + "https://app.test:8443"}, None},
		{"localhost", []string{cross, from + "capacitor://localhost"}, None},
		{"localhost", []string{from + "https://app.test"}, ForeignOrigin},
		{"localhost", []string{from + "https://APP.test:8443"}, ForeignOrigin},
		{"localhost", []string{from + "https://app.test:8443/"}, ForeignOrigin},
		{"localhost", []string{from + "http://app.test:8443"}, ForeignOrigin},
		{"localhost", []string{from + "file:///x"}, ForeignOrigin},
		{"localhost", []string{from}, ForeignOrigin},
		{"localhost", []string{cross}, CrossSite},
		{"localhost", []string{from + "null", from + "null"}, Repeated},
		{"evil.test", []string{from + "null"}, ForeignHost},
		{"usages.test", nil, None},
		{"USAGES.test.:80", nil, None},
		{"usages.test", []string{from + "http://usages.test"}, None},
		{"usages.test", []string{from + "http://evil.test"}, ForeignOrigin},
		{"a.usages.test", nil, ForeignHost},
		{"192.0.2.1:3000", nil, None},
		{"[2001:DB8:0::1]:3000", nil, None},
		{"not a name", nil, ForeignHost},
		{"[::1]", nil, None},
	} {
		if got := rule.Check(request{row.host, row.headers}.parsed(), true); got != row.want {
			t.Errorf("Host %q, %q: %q, want %q", row.host, row.headers, got, row.want)
		}
	}
}

func TestAnAbsoluteTargetReplacesHost(t *testing.T) {
	for _, row := range [][3]string{
		{"/api/usages", "localhost:3000", "localhost:3000"},
		{"/x://evil.test/", "localhost", "localhost"},
		{"//evil.test/", "localhost", "localhost"},
		{"", "localhost", "localhost"},
		{"http://evil.test/api/usages", "localhost", "evil.test"},
		{"http://evil.test:80?x", "localhost", "evil.test:80"},
		{"HTTP://localhost", "evil.test", "localhost"},
		{"http://a@localhost#b", "localhost", "a@localhost"},
		{"http:///api/usages", "localhost", "http:///api/usages"},
		{"*", "localhost", "*"},
	} {
		if got := string(Authority([]byte(row[0]), []byte(row[1]))); got != row[2] {
			t.Errorf("%q with Host %q: %q, want %q", row[0], row[1], got, row[2])
		}
	}
}

// hostOf parses an authority with another parser and returns its host in canonical form.
func hostOf(t *testing.T, authority string) string {
	t.Helper()
	u, err := url.Parse("http://" + authority)
	if err != nil || u.Host != authority || u.User != nil {
		t.Fatalf("accepted as an authority: %q: %v", authority, err)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return ip.String()
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// FuzzRule checks each decision with another parser of authorities, and that simple requests
// are allowed.
func FuzzRule(f *testing.F) {
	for _, row := range [][3]string{
		{"localhost:3000", "http://localhost", "same-site"},
		{"evil.test", "http://evil.test:3000", ""},
		{"[::1]", "https://[0::1]:8", ""},
		{"foo.localhost.", "null", "cross-site"},
		{"127.0.0.1", "http://127.0.0.1:", "x"},
		{"a@b", "http://a@b", ""},
		{"a%41", "http://a%41", ""},
		{"[::ffff:127.0.0.1%1]", "http://", ""},
		{"1.2.3.4.", "http://1.2.3.4", ""},
		{"", "", ""},
	} {
		f.Add([]byte(row[0]), []byte(row[1]), []byte(row[2]), byte(1), byte(1), true)
		f.Add([]byte(row[0]), []byte(row[1]), []byte(row[2]), byte(0), byte(0), false)
	}
	plainOrigin := regexp.MustCompile(`^https?://([a-z]+(\.[a-z]+)*|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?$`)
	f.Fuzz(func(t *testing.T, authority, origin, site []byte, origins, sites byte, loopbackOnly bool) {
		h := Headers{Authority: bytes.Clone(authority), Origin: bytes.Clone(origin), Site: bytes.Clone(site), Origins: int(origins % 3), Sites: int(sites % 3)}
		if h.Origins == 0 {
			h.Origin = nil
		}
		if h.Sites == 0 {
			h.Site = nil
		}
		var none *Rule
		got := none.Check(h, loopbackOnly)
		if h.Origins > 1 || h.Sites > 1 {
			if got != Repeated {
				t.Fatalf("repeated: %q", got)
			}
			return
		}
		own := string(h.Site) == "same-origin" || string(h.Site) == "none"
		switch {
		case own:
			if got != None {
				t.Fatalf("its own page: %q", got)
			}
		case got == None:
			if string(h.Site) == "cross-site" || h.Origins == 0 && len(h.Site) > 0 {
				t.Fatalf("allowed %q without an origin that is", h.Site)
			}
			if h.Origins == 1 {
				scheme, rest, _ := strings.Cut(string(origin), "://")
				if s := strings.ToLower(scheme); s != "http" && s != "https" || hostOf(t, rest) != hostOf(t, string(authority)) {
					t.Fatalf("allowed %q to %q", origin, authority)
				}
			}
			if loopbackOnly && len(authority) > 0 {
				name := hostOf(t, string(authority))
				ip, _ := netip.ParseAddr(name)
				if name != "localhost" && !strings.HasSuffix(name, ".localhost") && !ip.Unmap().IsLoopback() {
					t.Fatalf("accepted as loopback: %q", authority)
				}
			}
		case h.Sites == 0 && h.Origins == 1 && plainOrigin.Match(origin) && !loopbackOnly:
			if _, rest, _ := strings.Cut(string(origin), "://"); rest == string(authority) {
				t.Fatalf("rejected %q to %q: %q", origin, authority, got)
			}
		}
		if !bytes.Equal(h.Authority, authority) || h.Origins == 1 && !bytes.Equal(h.Origin, origin) {
			t.Fatal("the rule changed the headers")
		}
		if rule := NewRule([]string{string(origin)}, nil); h.Origins == 1 && rule.Check(h, false) != None {
			t.Fatalf("rejected %q, which is listed", origin)
		}
	})
}

func TestTheRuleAllocatesNothing(t *testing.T) {
	rule := NewRule([]string{"null"}, []string{"usages.test"})
	for _, r := range []request{
		{"localhost:3000", nil},
		{"127.0.0.1:3000", nil},
		{"[::1]:3000", nil},
		{"usages.test", nil},
		{"usages.test", []string{from + "http://usages.test:8080"}},
		{"localhost", []string{from + "null"}},
	} {
		h := r.parsed()
		if n := testing.AllocsPerRun(100, func() {
			if why := rule.Check(h, true); why != None {
				t.Fatal(why)
			}
		}); n > 0 {
			t.Errorf("Host %q, %q: %v allocations", r.host, r.headers, n)
		}
	}
}

func BenchmarkRule(b *testing.B) {
	h := request{"localhost:3000", nil}.parsed()
	for b.Loop() {
		if (*Rule)(nil).Check(h, true) != None {
			b.Fatal("rejected")
		}
	}
}
