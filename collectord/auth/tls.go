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

// TLS is the server's certificate, and the authorities that it trusts for client
// certificates. It is immutable.
type TLS struct {
	certificate tls.Certificate
	authorities *x509.CertPool // for client certificates; nil: clients need none
	expires     time.Time

	required, optional *tls.Config // whether a client must present a certificate
}

// Expires returns the earliest expiry of the certificates in the server's chain.
func (t *TLS) Expires() time.Time { return t.expires }

// RequestsCertificates reports whether the server requests client certificates.
func (t *TLS) RequestsCertificates() bool { return t.authorities != nil }

// TLSFileError is an error in one of the files of ReadTLS. Option distinguishes two
// uses of the same file.
type TLSFileError struct {
	Option string // "certificate", "key" or "authorities"
	Path   string
	Err    error
}

func (e *TLSFileError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *TLSFileError) Unwrap() error { return e.Err }

// ReadTLS reads PEM files: the server's certificate chain, its private key and, unless
// the path is empty, the authorities for client certificates. An error joins one
// TLSFileError for each problem.
func ReadTLS(certificate, key, authorities string) (*TLS, error) {
	t := &TLS{}
	var errs []error
	addError := func(option, path string, err error) {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		if err != nil {
			errs = append(errs, &TLSFileError{option, path, err})
		}
	}
	chain, err := readCertificates(certificate)
	addError("certificate", certificate, err)
	keyPEM, err := readKey(key)
	addError("key", key, err)
	if len(errs) == 0 {
		var chainPEM []byte
		for _, c := range chain {
			chainPEM = append(chainPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
			if t.expires.IsZero() || c.NotAfter.Before(t.expires) {
				t.expires = c.NotAfter
			}
		}
		t.certificate, err = tls.X509KeyPair(chainPEM, keyPEM)
		addError("key", key, err)
	}
	if authorities != "" {
		all, err := readCertificates(authorities)
		addError("authorities", authorities, err)
		t.authorities = x509.NewCertPool()
		for _, c := range all {
			t.authorities.AddCert(c)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	// Each configuration has its own session ticket keys. A session therefore can't be
	// resumed after the authorities were replaced.
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

// byteOrderMark is what programs on Windows write at the start of files.
var byteOrderMark = []byte("\ufeff") //nolint:gochecknoglobals // a constant

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	return bytes.TrimPrefix(content, byteOrderMark), err
}

// readKey reads a PEM file with a private key. A key with a password is an error, because
// nobody can enter the password.
func readKey(path string) (content []byte, err error) {
	if content, err = readPEM(path); err != nil {
		return nil, err
	}
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return content, nil
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, errors.New("is encrypted with a password, which a daemon can't ask for: write it without one (openssl pkey -in FILE -out NEW)")
		}
	}
}

// readCertificates reads a PEM file that contains only certificates, at least one.
func readCertificates(path string) (all []*x509.Certificate, err error) {
	content, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("contains a PEM block of another type than CERTIFICATE (%s)", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 || bytes.Contains(content, []byte("-----BEGIN")) {
		return nil, errors.New("contains no certificate, or a broken one")
	}
	return all, nil
}

// Expiries returns the expiry of each certificate in a PEM file.
func Expiries(path string) (ends []time.Time, err error) {
	all, err := readCertificates(path)
	for _, c := range all {
		ends = append(ends, c.NotAfter)
	}
	return ends, err
}

// ClientOf returns the client's name in a certificate: the first DNS name, or the
// common name if there is no DNS name. It returns "" if the name is not a ValidClient.
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
