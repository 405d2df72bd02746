package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/httpserver"
	"collectord/collectord/origin"
	"collectord/config"
)

// expiresSoon is how long before its end a certificate is warned of.
const expiresSoon = 14 * 24 * time.Hour

// readPolicy reads the files that say who may post, and what is seldom meant
// about them. The error is a config.Mistakes.
func readPolicy(cfg *config.Config) (who auth.Policy, warnings []string, err error) {
	who.Anonymous = cfg.HTTP.Anonymous
	who.Pages = origin.NewRule(cfg.HTTP.Origins, cfg.HTTP.Hosts)
	var wrong config.Mistakes
	if path := cfg.HTTP.TokensFile; path != "" {
		var lines auth.LineErrors
		switch who.Tokens, err = auth.ReadTokens(path); {
		case errors.As(err, &lines):
			for _, l := range lines {
				wrong = append(wrong, config.Mistake{Key: "http.tokens_file", Origin: fmt.Sprintf("%s line %d", path, l.Line), Reason: l.Reason})
			}
		case err != nil:
			wrong = append(wrong, unreadable("http.tokens_file", path, err))
		default:
			warnings = append(warnings, tooOpen("http.tokens_file", path)...)
			if who.Tokens.Count() == 0 && !who.Anonymous {
				warnings = append(warnings, fmt.Sprintf("http.tokens_file %s holds no token: nobody may post", path))
			}
		}
	}
	if files := cfg.HTTP.TLS; files.Cert != "" {
		if who.TLS, err = auth.ReadTLS(files.Cert, files.Key, files.ClientCA); err != nil {
			wrong = append(wrong, mistakesOfTLS(files, err)...)
		} else {
			warnings = append(warnings, tooOpen("http.tls.key", files.Key)...)
			warnings = append(warnings, expiry(files.Cert, who.TLS.Expires(), time.Now())...)
		}
	}
	if len(wrong) > 0 {
		return auth.Policy{}, warnings, wrong
	}
	return who, warnings, nil
}

func unreadable(key, path string, err error) config.Mistake {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return config.Mistake{Key: key, Origin: path, Reason: fmt.Sprintf("can't be read: %v", err)}
}

// mistakesOfTLS finds the keys to errors, which name files.
func mistakesOfTLS(files config.TLS, err error) (all config.Mistakes) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return config.Mistakes{{Key: "http.tls", Origin: files.Cert, Reason: err.Error()}}
	}
	for _, err := range joined.Unwrap() {
		var f *auth.TLSFileError
		if !errors.As(err, &f) {
			continue
		}
		key := "http.tls.cert"
		switch f.Path {
		case files.Key:
			key = "http.tls.key"
		case files.ClientCA:
			key = "http.tls.client_ca"
		}
		all = append(all, config.Mistake{Key: key, Origin: f.Path, Reason: f.Err.Error()})
	}
	return all
}

// tooOpen warns of a file that strangers on this host can read or change.
func tooOpen(key, path string) []string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o006 == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s %s can be read or changed by everyone on this host (mode %04o): chmod 640 %s", key, path, info.Mode().Perm(), path)}
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

// expires is when the certificate in use does, in seconds since 1970; without
// one never.
func expires(who *auth.Policy) float64 {
	if who.TLS == nil {
		return math.Inf(1)
	}
	return float64(who.TLS.Expires().Unix())
}

// clients says who may send, for the log.
func clients(cfg *config.Config, who *auth.Policy) slog.Attr {
	anyone := func(key string, listen []config.Address) string {
		if slices.ContainsFunc(listen, func(a config.Address) bool { return a.Network != "unix" && !a.IP.Addr().IsLoopback() }) {
			return "anyone who can reach " + key + " may send"
		}
		return "anyone on this host may send"
	}
	var attrs []any
	if len(cfg.HTTP.Listen) > 0 {
		var shown []string
		if who.TLS != nil && who.TLS.AsksForCertificates() {
			shown = append(shown, "a client certificate")
		}
		if who.Tokens != nil {
			shown = append(shown, "one of "+plural(who.Tokens.Count(), "token"))
		}
		words := anyone("http.listen", cfg.HTTP.Listen)
		if len(shown) > 0 && !who.Anonymous {
			words = "who shows " + strings.Join(shown, " and ") + " may send"
		}
		attrs = append(attrs, "http", words)
		if who.TLS != nil {
			attrs = append(attrs, "certificate_expires", who.TLS.Expires().UTC())
		}
	}
	if len(cfg.UDP.Listen) > 0 {
		words := anyone("udp.listen", cfg.UDP.Listen)
		if len(cfg.UDP.Allow) > 0 {
			words = fmt.Sprintf("addresses of %v may send", cfg.UDP.Allow)
		}
		attrs = append(attrs, "udp", words)
	}
	return slog.Group("clients", attrs...)
}

// policyPart is the part of a reload that reads the files anew.
func policyPart(web *httpserver.Server, logger *slog.Logger) prepare {
	return func(next *config.Config) (commit func(), err error) {
		who, warnings, err := readPolicy(next)
		if err != nil {
			return nil, err
		}
		return func() {
			before := web.Policy()
			web.SetPolicy(who)
			for _, w := range warnings {
				logger.Warn(w)
			}
			if who.Tokens == nil && who.TLS == nil && before.Tokens == nil && before.TLS == nil {
				return // there are no files to tell of
			}
			added, removed := who.Tokens.Since(before.Tokens)
			logger.Info("who may post was read again", clients(next, &who), "tokens_added", added, "tokens_removed", removed)
		}, nil
	}
}
