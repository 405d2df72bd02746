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
func (d draft) readPolicy() (policy auth.Policy) {
	http := d.Config.HTTP
	policy.Anonymous = http.Anonymous
	policy.Pages = origin.NewRule(http.Origins, http.Hosts)
	if path := http.TokensFile; path != "" && d.Valid("http.tokens_file") {
		policy.Tokens = d.readTokens(path)
	}
	if files := http.TLS; files.Cert != "" && files.Key != "" && d.Valid("http.tls.cert", "http.tls.key", "http.tls.client_ca") {
		var err error
		if policy.TLS, err = auth.ReadTLS(files.Cert, files.Key, files.ClientCA); err != nil {
			d.addTLSMistakes(files, err)
		} else {
			d.warn(expiryWarning(files.Cert, policy.TLS.Expires(), time.Now())...)
		}
	}
	return policy
}

func (d draft) readTokens(path string) *auth.Tokens {
	tokens, err := auth.ReadTokens(path)
	var lines auth.LineErrors
	switch {
	case errors.As(err, &lines):
		for _, l := range lines {
			d.addFileMistake("http.tokens_file", fmt.Sprintf("%s line %d", path, l.Line), errors.New(l.Reason))
		}
	case err != nil:
		d.addFileMistake("http.tokens_file", path, err)
	default:
		if tokens.Count() == 0 && !d.Config.HTTP.Anonymous {
			d.warn(fmt.Sprintf("http.tokens_file %s has no token: no client may send", path))
		}
	}
	return tokens
}

// addTLSMistakes adds a mistake for each file error, under the key that names the file.
func (d draft) addTLSMistakes(files config.TLS, err error) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		d.addFileMistake("http.tls", files.Cert, err)
		return
	}
	for _, err := range joined.Unwrap() {
		var f *auth.TLSFileError
		if !errors.As(err, &f) {
			continue
		}
		key := map[string]string{"certificate": "http.tls.cert", "key": "http.tls.key", "authorities": "http.tls.client_ca"}[f.Option]
		d.addFileMistake(key, f.Path, f.Err)
	}
}

func expiryWarning(path string, at, now time.Time) []string {
	switch left := at.Sub(now); {
	case left <= 0:
		return []string{fmt.Sprintf("http.tls.cert %s expired on %s: clients refuse it", path, at.UTC().Format(time.DateTime))}
	case left <= expiresSoon:
		return []string{fmt.Sprintf("http.tls.cert %s expires on %s, in %d days", path, at.UTC().Format(time.DateTime), int(left.Hours()/24))}
	}
	return nil
}

// certificateExpiry returns when the certificate in use expires, in seconds since 1970. Without a
// certificate it returns +Inf.
func certificateExpiry(policy *auth.Policy) float64 {
	if policy.TLS == nil {
		return math.Inf(1)
	}
	return float64(policy.TLS.Expires().Unix())
}

// describeClients describes the clients that may send over HTTP and UDP. A text is empty
// if the listener is off.
func describeClients(cfg *config.Config, policy *auth.Policy) (http, udp string) {
	anyone := func(key string, listen []config.Address) string {
		if slices.ContainsFunc(listen, func(a config.Address) bool { return a.Network != "unix" && !a.IP.Addr().IsLoopback() }) {
			return "anyone who can reach " + key + " may send"
		}
		return "anyone on this host may send"
	}
	if len(cfg.HTTP.Listen) > 0 {
		var credentials []string
		if policy.TLS != nil && policy.TLS.RequestsCertificates() {
			credentials = append(credentials, "a client certificate")
		}
		if policy.Tokens != nil {
			credentials = append(credentials, "one of "+plural(policy.Tokens.Count(), "token"))
		}
		http = anyone("http.listen", cfg.HTTP.Listen)
		if len(credentials) > 0 && !policy.Anonymous {
			http = "whoever presents " + strings.Join(credentials, " and ") + " may send"
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

// clientsAttr returns the description of the permitted clients as a log attribute.
func clientsAttr(cfg *config.Config, policy *auth.Policy) slog.Attr {
	http, udp := describeClients(cfg, policy)
	var attrs []any
	if http != "" {
		attrs = append(attrs, "http", http)
		if policy.TLS != nil {
			attrs = append(attrs, "certificate_expires", policy.TLS.Expires().UTC())
		}
	}
	if udp != "" {
		attrs = append(attrs, "udp", udp)
	}
	return slog.Group("clients", attrs...)
}

// reloadPolicy returns the part of a reload that changes which clients may send.
func reloadPolicy(web *httpserver.Server, logger *slog.Logger) func(next *plan) {
	return func(next *plan) {
		policy, before := next.policy, web.Policy()
		web.SetPolicy(policy)
		if policy.Tokens == nil && policy.TLS == nil && before.Tokens == nil && before.TLS == nil {
			return // no such files before or after
		}
		added, removed := policy.Tokens.Since(before.Tokens)
		logger.Info("tokens and certificates were read again", clientsAttr(next.cfg, &policy), "tokens_added", added, "tokens_removed", removed)
	}
}
