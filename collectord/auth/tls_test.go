package auth_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"collectord/collectord/auth"
	"collectord/collectord/auth/authtest"
)

func TestBrokenTLSFilesAreNamed(t *testing.T) {
	ca := authtest.NewAuthority(t)
	certificate, key := ca.Issue(t, x509.ExtKeyUsageServerAuth, nil)
	_, otherKey := ca.Issue(t, x509.ExtKeyUsageServerAuth, nil)
	c, k := authtest.File(t, certificate), authtest.File(t, key)
	for name, files := range map[string][4]string{
		"no such certificate":     {"/nonexistent/c", k, "", "/nonexistent/c: no such file"},
		"no such key":             {c, "/nonexistent/k", "", "/nonexistent/k: no such file"},
		"no such authorities":     {c, k, "/nonexistent/a", "/nonexistent/a: no such file"},
		"another key":             {c, authtest.File(t, otherKey), "", "does not match"},
		"a key for a certificate": {k, k, "", k + ": contains a PEM block of another type"},
		"a certificate for a key": {c, c, "", c + ": tls: "},
		"a key with a password":   {c, authtest.File(t, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("secret")})), "", "is encrypted with a password"},
		"an old key with one":     {c, authtest.File(t, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("secret")})), "", "is encrypted with a password"},
		"nothing":                 {authtest.File(t, nil), k, "", "contains no certificate"},
		"half a certificate":      {authtest.File(t, certificate[:200]), k, "", "contains no certificate, or a broken one"},
		"one and a half":          {authtest.File(t, append(append([]byte{}, certificate...), certificate[:200]...)), k, "", "or a broken one"},
		"not DER":                 {authtest.File(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("secret")})), k, "", "certificate 1: "},
		"text for authorities":    {c, k, authtest.File(t, []byte("secret")), "contains no certificate"},
	} {
		_, err := auth.ReadTLS(files[0], files[1], files[2])
		var fileErr *auth.TLSFileError
		if !errors.As(err, &fileErr) || !strings.Contains(err.Error(), files[3]) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := auth.ReadTLS("/nonexistent/c", "/nonexistent/k", "/nonexistent/a")
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three errors in one: %v", err)
	}
	soon := time.Now().Add(10 * time.Hour).Truncate(time.Second)
	short, shortKey := ca.Issue(t, x509.ExtKeyUsageServerAuth, func(c *x509.Certificate) { c.NotAfter = soon })
	read, err := auth.ReadTLS(authtest.File(t, append(short, ca.PEM...)), authtest.File(t, shortKey), "")
	if err != nil || !read.Expires().Equal(soon) {
		t.Errorf("certificates %+v, %v, want expiry %v", read, err, soon)
	}
}

// Programs on Windows write a byte order mark and ends of lines of their own.
func TestTLSFilesOfWindowsAreRead(t *testing.T) {
	ca := authtest.NewAuthority(t)
	certificate, key := ca.Issue(t, x509.ExtKeyUsageServerAuth, nil)
	ofWindows := func(text []byte) string {
		return authtest.File(t, append([]byte("\ufeff"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...))
	}
	if _, err := auth.ReadTLS(ofWindows(certificate), ofWindows(key), ofWindows(ca.PEM)); err != nil {
		t.Error(err)
	}
}
