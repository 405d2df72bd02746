package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/httpserver"
	"collectord/collectord/origin"
	"collectord/config"
)

// expiresSoon is the remaining lifetime of a certificate below which the daemon warns.
const expiresSoon = 30 * 24 * time.Hour

// readPolicy reads the files that define which clients may send. It warns of unusual
// contents.
func (d draft) readPolicy() (who auth.Policy) {
	http := d.Config.HTTP
	who.Anonymous = http.Anonymous
	who.Pages = origin.NewRule(http.Origins, http.Hosts)
	if path := http.TokensFile; path != "" && d.Valid("http.tokens_file") {
		who.Tokens = d.readTokens(path)
	}
	if files := http.TLS; files.Cert != "" && files.Key != "" && d.Valid("http.tls.cert", "http.tls.key", "http.tls.client_ca") {
		var err error
		if who.TLS, err = auth.ReadTLS(files.Cert, files.Key, files.ClientCA); err != nil {
			d.mistakesOfTLS(files, err)
		} else {
			d.warn(expiry(files.Cert, who.TLS.Expires(), time.Now())...)
		}
	}
	return who
}

func (d draft) readTokens(path string) *auth.Tokens {
	tokens, err := auth.ReadTokens(path)
	var lines auth.LineErrors
	switch {
	case errors.As(err, &lines):
		for _, l := range lines {
			d.fileMistake("http.tokens_file", fmt.Sprintf("%s line %d", path, l.Line), errors.New(l.Reason))
		}
	case err != nil:
		d.fileMistake("http.tokens_file", path, err)
	default:
		if tokens.Count() == 0 && !d.Config.HTTP.Anonymous {
			d.warn(fmt.Sprintf("http.tokens_file %s has no token: no client may send", path))
		}
	}
	return tokens
}

// mistakesOfTLS adds a mistake for each file error, under the key that names the file.
func (d draft) mistakesOfTLS(files config.TLS, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		d.fileMistake("http.tls", files.Cert, err)
		return
	}
	for _, err := range joined.Unwrap() {
		var f *auth.TLSFileError
		if !errors.As(err, &f) {
			continue
		}
		key := map[string]string{"certificate": "http.tls.cert", "key": "http.tls.key", "authorities": "http.tls.client_ca"}[f.Option]
		d.fileMistake(key, f.Path, f.Err)
	}
}

func expiry(path string, at, now time.Time) []string {
	switch left := at.Sub(now); {
	case left <= 0:
		return []string{fmt.Sprintf("http.tls.cert %s expired on %s: clients refuse it", path, at.UTC().Format(time.DateTime))}
	case left <= expiresSoon:
		return []string{fmt.Sprintf("http.tls.cert %s expires on %s, in %d days", path, at.UTC().Format(time.DateTime), int(left.Hours()/24))}
	}
	return nil
}

// expires returns when the certificate in use expires, in seconds since 1970. Without a
// certificate it returns +Inf.
func expires(who *auth.Policy) float64 {
	if who.TLS == nil {
		return math.Inf(1)
	}
	return float64(who.TLS.Expires().Unix())
}

// clientsInWords describes the clients that may send over HTTP and UDP. A text is empty
// if the listener is off.
func clientsInWords(cfg *config.Config, who *auth.Policy) (http, udp string) {
	anyone := func(key string, listen []config.Address) string {
		if slices.ContainsFunc(listen, func(a config.Address) bool { return a.Network != "unix" && !a.IP.Addr().IsLoopback() }) {
			return "anyone who can reach " + key + " may send"
		}
		return "anyone on this host may send"
	}
	if len(cfg.HTTP.Listen) > 0 {
		var shown []string
		if who.TLS != nil && who.TLS.RequestsCertificates() {
			shown = append(shown, "a client certificate")
		}
		if who.Tokens != nil {
			shown = append(shown, "one of "+plural(who.Tokens.Count(), "token"))
		}
		http = anyone("http.listen", cfg.HTTP.Listen)
		if len(shown) > 0 && !who.Anonymous {
			http = "who shows " + strings.Join(shown, " and ") + " may send"
		}
	}
	if len(cfg.UDP.Listen) > 0 {
		udp = anyone("udp.listen", cfg.UDP.Listen)
		if len(cfg.UDP.Allow) > 0 {
			udp = fmt.Sprintf("addresses of %v may send", cfg.UDP.Allow)
		}
	}
	return http, udp
}

// clients returns the description of the permitted clients as a log attribute.
func clients(cfg *config.Config, who *auth.Policy) slog.Attr {
	http, udp := clientsInWords(cfg, who)
	var attrs []any
	if http != "" {
		attrs = append(attrs, "http", http)
		if who.TLS != nil {
			attrs = append(attrs, "certificate_expires", who.TLS.Expires().UTC())
		}
	}
	if udp != "" {
		attrs = append(attrs, "udp", udp)
	}
	return slog.Group("clients", attrs...)
}

// policyPart returns the part of a reload that changes which clients may send.
func policyPart(web *httpserver.Server, logger *slog.Logger) func(next *plan) {
	return func(next *plan) {
		who, before := next.who, web.Policy()
		web.SetPolicy(who)
		if who.Tokens == nil && who.TLS == nil && before.Tokens == nil && before.TLS == nil {
			return // no such files before or after
		}
		added, removed := who.Tokens.Since(before.Tokens)
		logger.Info("tokens and certificates were read again", clients(next.cfg, &who), "tokens_added", added, "tokens_removed", removed)
	}
}
