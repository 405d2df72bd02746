package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// benchTLS compares single posts over TLS with nginx and the same certificate. Connections
// are kept alive, like those of real clients.
func benchTLS(rounds, seconds int, binary, dir string) error {
	fmt.Println("\nTLS 1.3, a certificate of ECDSA P-256, single posts; connections are kept alive")
	if _, err := exec.LookPath("wrk"); err != nil {
		fmt.Println("not measured: wrk is not installed")
		return nil
	}
	dir = filepath.Join(dir, "tls")
	if err := os.MkdirAll(dir, 0o755); err != nil { // nginx's workers run as another user
		return err
	}
	pair, err := newCertificate(dir)
	if err != nil {
		return err
	}
	load, err := newLoad(binary, dir)
	if err != nil {
		return err
	}
	c, err := startConstant(dir, pair)
	if err != nil {
		return err
	}
	defer c.stop()
	d, err := startDaemon(binary, dir, "", "COLLECTORD_HTTP_TLS_CERT="+pair.file, "COLLECTORD_HTTP_TLS_KEY="+pair.keyFile)
	if err != nil {
		return err
	}
	defer d.stop()
	d.url = "https://" + d.addr + "/api/usages"
	var rows []*posts
	for _, conns := range []int{8, 100, 256} {
		row := &posts{conns: conns}
		for i := range rounds {
			if err := row.measure(i, d, load, seconds, rival{c.secure, &row.constant}); err != nil {
				return err
			}
		}
		rows = append(rows, row)
	}
	printComparison(c.name, rows, func(p *posts) *comparison { return &p.constant })
	return nil
}

// certificate is a self-signed certificate for 127.0.0.1.
type certificate struct{ file, keyFile string }

func newCertificate(dir string) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	c := &certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	return c, errors.Join(
		os.WriteFile(c.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600),
		os.WriteFile(c.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}
