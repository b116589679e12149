package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"tidemark/internal/fault"
)

// tlsFlags say how NBD clients are spoken to over TLS.
type tlsFlags struct{ cert, key, clientCA string }

func (t *tlsFlags) register(f *pflag.FlagSet) {
	f.StringVar(&t.cert, "nbd-tls-cert", "", "PEM `file` with this server's certificate: NBD clients get nothing without TLS, but on unix sockets")
	f.StringVar(&t.key, "nbd-tls-key", "", "PEM `file` with the certificate's key")
	f.StringVar(&t.clientCA, "nbd-tls-client-ca", "", "PEM `file` with the authorities one of which must have signed a client's certificate")
}

func (t *tlsFlags) configured() bool { return t.cert != "" }

func (t *tlsFlags) check() error {
	if (t.cert == "") != (t.key == "") {
		return fault.New(fault.Usage, "--nbd-tls-cert and --nbd-tls-key belong together")
	}
	if t.clientCA != "" && !t.configured() {
		return fault.New(fault.Usage, "--nbd-tls-client-ca needs --nbd-tls-cert")
	}
	return nil
}

// config reads the files; it returns nil where TLS is not configured.
func (t *tlsFlags) config() (*tls.Config, error) {
	if !t.configured() {
		return nil, nil //nolint:nilnil // no TLS is a configuration
	}
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fault.New(fault.Usage, "certificate for NBD clients: %w", err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.clientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.clientCA)
	if err != nil {
		return nil, fmt.Errorf("authorities of NBD clients: %w", err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Usage, "%s holds no certificate", t.clientCA)
	}
	return config, nil
}
