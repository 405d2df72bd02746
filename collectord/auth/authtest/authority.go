// Package authtest makes certificates for tests.
package authtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"collectord/collectord/auth"
)

// Authority is a certificate authority.
type Authority struct {
	PEM []byte // the authority's own certificate

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority creates an Authority with a new key.
func NewAuthority(t *testing.T) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{key: key, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// Issue signs a certificate for 127.0.0.1 and returns it with its key as PEM. change
// may modify the template first; nil changes nothing.
func (a *Authority) Issue(t *testing.T, usage x509.ExtKeyUsage, change func(*x509.Certificate)) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "somebody"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, k.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// Client returns a client certificate with its key.
func (a *Authority) Client(t *testing.T, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(a.Issue(t, x509.ExtKeyUsageClientAuth, change))
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// File writes content to a new temporary file.
func File(t *testing.T, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Server returns the configuration of a server with a certificate of this authority. If
// clients is not nil, the server accepts only clients with a certificate of that
// authority.
func (a *Authority) Server(t *testing.T, clients *Authority) *auth.TLS {
	t.Helper()
	certificate, key := a.Issue(t, x509.ExtKeyUsageServerAuth, nil)
	authorities := ""
	if clients != nil {
		authorities = File(t, clients.PEM)
	}
	read, err := auth.ReadTLS(File(t, certificate), File(t, key), authorities)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// Config returns the configuration of a client that trusts this authority. certificate
// is the client's own, or nil.
func (a *Authority) Config(certificate *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	c := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	if certificate != nil {
		c.Certificates = []tls.Certificate{*certificate}
	}
	return c
}
