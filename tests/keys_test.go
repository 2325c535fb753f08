package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"time"
)

// keyPassword protects the cosign keys.
const keyPassword = "open sesame"

// makeKeys makes the registries' certificate authority and two cosign key
// pairs, of which scripts trust the first.
func (s suite) makeKeys() error {
	if err := os.Mkdir(s.path("keys"), 0o755); err != nil {
		return err
	}
	if err := s.makeCertificates(); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	for _, name := range []string{"cosign", "other"} {
		cmd := exec.Command("cosign3", "generate-key-pair", "--output-key-prefix", name)
		cmd.Dir, cmd.Env = s.path("keys"), append(os.Environ(), "COSIGN_PASSWORD="+keyPassword)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make a signing key: %w\n%s", err, out)
		}
	}
	// No transparency log, no certificate authority, no time stamps: a key pair only.
	out, err := exec.Command("cosign3", "signing-config", "create", "--out", s.path("keys", "signing-config.json")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a signing configuration: %w\n%s", err, out)
	}
	return nil
}

func (s suite) makeCertificates() error {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rkt tests"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		file  string
		cert  *x509.Certificate
		owner *ecdsa.PrivateKey
	}{{"ca.crt", authority, authorityKey}, {"server.crt", server, serverKey}} {
		der, err := x509.CreateCertificate(rand.Reader, c.cert, authority, &c.owner.PublicKey, authorityKey)
		if err != nil {
			return err
		}
		if err := s.writePEM(c.file, "CERTIFICATE", der); err != nil {
			return err
		}
	}
	der, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		return err
	}
	return s.writePEM("server.key", "EC PRIVATE KEY", der)
}

func (s suite) writePEM(name, kind string, der []byte) error {
	return os.WriteFile(s.path("keys", name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644)
}
