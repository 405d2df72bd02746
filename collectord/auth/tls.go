package auth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// TLS is the certificate that the server shows, and the authorities that it trusts.
// It is never changed.
type TLS struct {
	certificate tls.Certificate
	authorities *x509.CertPool // of clients; nil: they need no certificate
	expires     time.Time

	required, optional *tls.Config // with and without a certificate of the client
}

// Expires returns when the first of the certificates that are shown does.
func (t *TLS) Expires() time.Time { return t.expires }

// AsksForCertificates reports whether clients are to show one.
func (t *TLS) AsksForCertificates() bool { return t.authorities != nil }

// TLSFileError is of one of the files of ReadTLS, two of which may be the same.
type TLSFileError struct {
	Option string // "certificate", "key" or "authorities"
	Path   string
	Err    error
}

func (e *TLSFileError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *TLSFileError) Unwrap() error { return e.Err }

// ReadTLS reads a certificate with its private key and, unless the path is
// empty, the authorities that sign certificates of clients: PEM files. Each
// error is a TLSFileError; they are joined.
func ReadTLS(certificate, key, authorities string) (*TLS, error) {
	t := &TLS{}
	var errs []error
	failed := func(option, path string, err error) {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		if err != nil {
			errs = append(errs, &TLSFileError{option, path, err})
		}
	}
	chain, err := readCertificates(certificate)
	failed("certificate", certificate, err)
	keyPEM, err := os.ReadFile(key)
	failed("key", key, err)
	if len(errs) == 0 {
		var chainPEM []byte
		for _, c := range chain {
			chainPEM = append(chainPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			if t.expires.IsZero() || c.NotAfter.Before(t.expires) {
				t.expires = c.NotAfter
			}
		}
		t.certificate, err = tls.X509KeyPair(chainPEM, keyPEM)
		failed("key", key, err)
	}
	if authorities != "" {
		all, err := readCertificates(authorities)
		failed("authorities", authorities, err)
		t.authorities = x509.NewCertPool()
		for _, c := range all {
			t.authorities.AddCert(c)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	// A configuration has keys of its own for resumption, so that no session
	// outlives the authorities it was begun under.
	t.optional = &tls.Config{
		Certificates: []tls.Certificate{t.certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		ClientCAs:    t.authorities,
	}
	t.required = t.optional
	if t.authorities != nil {
		t.optional.ClientAuth = tls.VerifyClientCertIfGiven
		t.required = t.optional.Clone()
		t.required.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, nil
}

// readCertificates reads a PEM file that holds nothing else.
func readCertificates(path string) (all []*x509.Certificate, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block of another type than CERTIFICATE (%s)", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 || bytes.Contains(content, []byte("-----BEGIN")) {
		return nil, errors.New("holds no certificate, or a broken one")
	}
	return all, nil
}

// Expiries returns when each certificate of a PEM file expires.
func Expiries(path string) (ends []time.Time, err error) {
	all, err := readCertificates(path)
	for _, c := range all {
		ends = append(ends, c.NotAfter)
	}
	return ends, err
}

// ClientOf returns whom a certificate names: its first DNS name, or without one its
// common name, if that can be the name of a client; else "".
func ClientOf(c *x509.Certificate) string {
	name := c.Subject.CommonName
	if len(c.DNSNames) > 0 {
		name = c.DNSNames[0]
	}
	if !ValidClient(name) {
		return ""
	}
	return name
}
