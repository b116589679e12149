package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"tidemark/internal/fault"
)

// tlsFlags say how the clients of a listener (nbd, nats, http) are spoken to over TLS.
type tlsFlags struct{ listener, cert, key, clientCA string }

func (t *tlsFlags) register(f *pflag.FlagSet, listener string) {
	t.listener = listener
	also := ""
	if listener == listenerNBD {
		also = ", but on unix sockets"
		f.StringVar(&t.clientCA, listener+"-tls-client-ca", "", "PEM `file` with the authorities one of which must have signed a client's certificate")
	}
	f.StringVar(&t.cert, listener+"-tls-cert", "", "PEM `file` with this server's certificate: "+strings.ToUpper(listener)+" clients get nothing without TLS"+also)
	f.StringVar(&t.key, listener+"-tls-key", "", "PEM `file` with the certificate's key")
}

// listenerNBD is the one that may ask its clients for certificates.
const listenerNBD = "nbd"

func (t *tlsFlags) configured() bool { return t.cert != "" }

func (t *tlsFlags) check() error {
	if (t.cert == "") != (t.key == "") {
		return fault.New(fault.Usage, "--%[1]s-tls-cert and --%[1]s-tls-key belong together", t.listener)
	}
	if t.clientCA != "" && !t.configured() {
		return fault.New(fault.Usage, "--%[1]s-tls-client-ca needs --%[1]s-tls-cert", t.listener)
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
		return nil, fault.New(fault.Usage, "certificate for %s clients: %w", strings.ToUpper(t.listener), err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.clientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(t.clientCA)
	if err != nil {
		return nil, fmt.Errorf("authorities of %s clients: %w", strings.ToUpper(t.listener), err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Usage, "%s holds no certificate", t.clientCA)
	}
	return config, nil
}
