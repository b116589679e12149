package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeIdentity writes a certificate that signs itself, and its key.
func writeIdentity(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert", "CERTIFICATE", der), write("key", "PRIVATE KEY", secret)
}

func TestTLSFlags(t *testing.T) {
	cert, key := writeIdentity(t)
	for _, c := range []struct {
		flags tlsFlags
		auth  tls.ClientAuthType
		fails bool
	}{
		{flags: tlsFlags{"nbd", cert, key, ""}, auth: tls.NoClientCert},
		{flags: tlsFlags{"nbd", cert, key, cert}, auth: tls.RequireAndVerifyClientCert},
		{flags: tlsFlags{"nbd", cert, key, key}, fails: true}, // a key is no authority
		{flags: tlsFlags{"nbd", cert, key, cert + ".missing"}, fails: true},
		{flags: tlsFlags{"nbd", key, cert, ""}, fails: true},
	} {
		config, err := c.flags.config()
		if (err != nil) != c.fails {
			t.Errorf("%+v: %v", c.flags, err)
			continue
		}
		if err == nil && (config.ClientAuth != c.auth || len(config.Certificates) != 1) {
			t.Errorf("%+v: client authentication %v", c.flags, config.ClientAuth)
		}
	}
	if config, err := (&tlsFlags{}).config(); config != nil || err != nil {
		t.Errorf("without flags: %v, %v", config, err)
	}
}

// TestTLSOpensAnNBDAddress: it is what strangers could reach that needs protection.
func TestTLSOpensAnNBDAddress(t *testing.T) {
	cfg := serveConfig{
		data: "d", services: allServices(), durability: durabilitySync, journalBytesMax: defaultJournalBytes,
		natsListen: defaultNATSListen, nbd: []string{"0.0.0.0:10809"},
	}
	if err := cfg.checkAddresses(); err == nil {
		t.Error("without TLS it is allowed")
	}
	cfg.nbdTLS = tlsFlags{cert: "c", key: "k"}
	if err := cfg.checkAddresses(); err != nil {
		t.Error(err)
	}
}
