package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	connectTimeout = 5 * time.Second
	// expiryWarning is how long before its expiry the storage's certificate causes a
	// warning.
	expiryWarning = 30 * 24 * time.Hour
	maxAddresses  = 16 // max number of tried addresses
)

// reach adds the steps before the first request: name, connection and TLS.
func (x *examination) reach(ctx context.Context) bool {
	s := x.store
	base, ok := s.transport.base.(*http.Transport)
	if !ok {
		return x.add(stepName, NotChecked, "the connection is made by other means", "")
	}
	endpoint := s.client.EndpointURL()
	target, targetName := endpoint, "shipper.s3.endpoint"
	if proxy, err := base.Proxy(&http.Request{URL: endpoint}); err == nil && proxy != nil {
		target, targetName = proxy, "the proxy "+s.proxyName()
	}
	addrs, port, ok := x.resolve(ctx, target, targetName)
	if !ok {
		return false
	}
	conn, ok := x.connect(ctx, base, addrs, port, targetName)
	if !ok {
		return false
	}
	defer conn.Close()
	switch {
	case target != endpoint:
		return x.add(stepTLS, NotChecked, "the storage is reached by "+targetName, "")
	case endpoint.Scheme != "https":
		return x.add(stepTLS, NotChecked, "shipper.s3.endpoint is http://", "")
	}
	return x.handshake(ctx, base, conn, endpoint.Hostname())
}

// resolve adds the result of looking up the target's name.
func (x *examination) resolve(ctx context.Context, target *url.URL, targetName string) (addrs []netip.Addr, port string, ok bool) {
	host := target.Hostname()
	if port = target.Port(); port == "" {
		port = map[string]string{"http": "80"}[target.Scheme]
		if port == "" {
			port = "443"
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, port, x.add(stepName, Passed, host+" is an address", "")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, "", x.add(stepName, Failed, err.Error(), "is the name in "+targetName+" right, and does this host reach its name servers (/etc/resolv.conf)?")
	}
	addrs = addrs[:min(len(addrs), maxAddresses)]
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, port, x.add(stepName, Passed, host+" is "+joinTexts(addrs), "")
}

func joinTexts[T fmt.Stringer](all []T) string {
	texts := make([]string, len(all))
	for i, value := range all {
		texts[i] = value.String()
	}
	return strings.Join(texts, ", ")
}

// connect adds the addresses that accept a connection, and returns a connection to the
// first of them.
func (x *examination) connect(ctx context.Context, base *http.Transport, addrs []netip.Addr, port, targetName string) (first net.Conn, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conns, errs := make([]net.Conn, len(addrs)), make([]error, len(addrs))
	var dials sync.WaitGroup
	for i, a := range addrs {
		dials.Go(func() { conns[i], errs[i] = base.DialContext(ctx, "tcp", net.JoinHostPort(a.String(), port)) })
	}
	dials.Wait()
	var reached []netip.Addr
	var failed []error
	for i, c := range conns {
		switch {
		case errs[i] == nil && first == nil:
			first = c
			reached = append(reached, addrs[i])
		case errs[i] == nil:
			_ = c.Close()
			reached = append(reached, addrs[i])
		case addrs[i].Is6() && isUnreachable(errs[i]): // this host has no IPv6
		default:
			failed = append(failed, errs[i])
		}
	}
	switch {
	case first == nil && len(failed) == 0:
		failed = errs
		fallthrough
	case first == nil:
		advice := "check routes and firewalls between this host and " + targetName
		if errors.Is(failed[0], syscall.ECONNREFUSED) {
			advice = "start the storage, or correct " + targetName + ": nothing listens there"
		}
		return nil, x.add(stepConnection, Failed, oneLine(errors.Join(failed...)), advice)
	case len(failed) > 0:
		return first, x.add(stepConnection, Doubtful, "connected to "+joinTexts(reached)+", but not to all: "+oneLine(errors.Join(failed...)), "repair that address, or remove it from the DNS name: some attempts wait for it")
	}
	return first, x.add(stepConnection, Passed, "connected to "+joinTexts(reached), "")
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func isUnreachable(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// handshake adds the result of the TLS handshake and of the check of the storage's
// certificate.
func (x *examination) handshake(ctx context.Context, base *http.Transport, conn net.Conn, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	options := base.TLSClientConfig.Clone()
	options.ServerName = host
	secure := tls.Client(conn, options)
	if err := secure.HandshakeContext(ctx); err != nil {
		return x.add(stepTLS, Failed, err.Error(), tlsAdvice(err))
	}
	state := secure.ConnectionState()
	certificate, until := state.PeerCertificates[0], firstExpiry(state.VerifiedChains)
	found := fmt.Sprintf("%s; the certificate of %s is trusted until %s", tls.VersionName(state.Version), strings.Join(names(certificate), ", "), until.UTC().Format(time.DateOnly))
	if time.Until(until) < expiryWarning {
		return x.add(stepTLS, Doubtful, found, "renew the storage's certificate: nothing is shipped once it has expired")
	}
	return x.add(stepTLS, Passed, found, "")
}

// firstExpiry returns the expiry of the chain that stays valid longest.
func firstExpiry(chains [][]*x509.Certificate) (until time.Time) {
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(until) {
			until = end
		}
	}
	return until
}

// names returns the first four names for which a certificate is valid.
func names(c *x509.Certificate) []string {
	all := c.DNSNames
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		all = []string{c.Subject.CommonName}
	}
	return all[:min(len(all), 4)]
}

// tlsAdvice returns the advice for a failed handshake.
func tlsAdvice(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name):
		return "write one of the certificate's names in shipper.s3.endpoint: " + strings.Join(names(name.Certificate), ", ")
	case errors.As(err, &unknown):
		return "set shipper.s3.ca_file to the certificate file of the authority that signed it"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the storage's certificate, or correct the clock of this host, which shows " + time.Now().UTC().Format(time.DateTime)
	case errors.As(err, &record):
		return "the storage does not speak TLS: write http:// in shipper.s3.endpoint"
	}
	return "check which server answers at shipper.s3.endpoint"
}
