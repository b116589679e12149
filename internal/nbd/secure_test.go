package nbd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/internal/nbd"
	"tidemark/internal/nbd/nbdtest"
	"tidemark/internal/nbd/wire"
)

// identity is a certificate for localhost that signs itself, and the pool that trusts it.
type identity struct {
	certificate tls.Certificate
	trust       *x509.CertPool
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id := identity{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, x509.NewCertPool()}
	id.trust.AddCert(certificate)
	return id
}

func (id identity) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{id.certificate}, MinVersion: tls.VersionTLS12}
}

func (id identity) client() *tls.Config {
	return &tls.Config{RootCAs: id.trust, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// serveTLS runs a server of one disk until the test ends, and returns its address.
func serveTLS(t *testing.T, network string, config *tls.Config) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stop: stop, ended: make(chan error, 1)}
	s := nbd.New(nbd.Config{Exports: nbdtest.NewExports(newDisk()), Log: slog.New(slog.DiscardHandler), TLS: config})
	go func() { r.ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		r.wait(t)
	})
	return l.Addr().String()
}

func dialPlain(t *testing.T, network, address string) *raw {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return (&raw{t: t, conn: conn}).hello()
}

// startTLS asks for TLS and goes on with it.
func (c *raw) startTLS(config *tls.Config) {
	c.t.Helper()
	c.expect(wire.RepAck, wire.OptStartTLS, nil)
	secure := tls.Client(c.conn, config)
	if err := secure.Handshake(); err != nil {
		c.t.Fatalf("TLS: %v", err)
	}
	c.conn = secure
}

func TestSessionOverTLS(t *testing.T) {
	id := newIdentity(t)
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c := dialPlain(t, network, serveTLS(t, network, id.server()))
			c.startTLS(id.client())
			c.expect(wire.RepAck, wire.OptGo, export("disk"))
			data := make([]byte, diskSize)
			if _, err := rand.Read(data); err != nil {
				t.Fatal(err)
			}
			c.request(wire.Request{Command: wire.CmdWrite, Cookie: 1, Length: diskSize}, data)
			if got := c.errno(1); got != 0 {
				t.Fatalf("WRITE: %v", got)
			}
			c.request(wire.Request{Command: wire.CmdRead, Cookie: 2, Length: diskSize}, nil)
			if got := c.errno(2); got != 0 {
				t.Fatalf("READ: %v", got)
			}
			if !bytes.Equal(c.recv(diskSize), data) {
				t.Error("what was read is not what was written")
			}
			c.request(wire.Request{Command: wire.CmdDisconnect}, nil)
			if _, err := c.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the session's end was not said: %v", err)
			}
		})
	}
}

func TestNothingWithoutTLS(t *testing.T) {
	id := newIdentity(t)
	address := serveTLS(t, "tcp", id.server())
	c := dialPlain(t, "tcp", address)
	for opt, data := range map[wire.Option][]byte{
		wire.OptList: nil, wire.OptInfo: export("disk"), wire.OptGo: export("disk"), wire.OptStructuredReply: nil,
		wire.OptSetMetaContext: queries("disk", wire.BaseAllocation), wire.Option(99): nil,
	} {
		c.expect(wire.RepErrTLSRequired, opt, data)
	}
	c.expect(wire.RepErrInvalid, wire.OptStartTLS, []byte("x"))
	c.startTLS(id.client())
	c.expect(wire.RepErrInvalid, wire.OptStartTLS, nil)
	c.expect(wire.RepAck, wire.OptAbort, nil)

	c = dialPlain(t, "tcp", address)
	c.send(wire.AppendOption(nil, wire.OptExportName, []byte("disk")))
	c.gone()
	c = dialPlain(t, "tcp", address)
	c.expect(wire.RepAck, wire.OptAbort, nil)
}

func TestTLSIsVoluntaryOnUnixSockets(t *testing.T) {
	id := newIdentity(t)
	c := dialPlain(t, "unix", serveTLS(t, "unix", id.server()))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

func TestNoTLSWithoutCertificate(t *testing.T) {
	c := dialPlain(t, "tcp", serveTLS(t, "tcp", nil))
	c.expect(wire.RepErrUnsup, wire.OptStartTLS, nil)
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

// What was agreed in the clear does not count behind TLS.
func TestTLSForgetsWhatWasSaidBefore(t *testing.T) {
	id := newIdentity(t)
	c := dialPlain(t, "unix", serveTLS(t, "unix", id.server()))
	c.expect(wire.RepAck, wire.OptStructuredReply, nil)
	c.expect(wire.RepAck, wire.OptSetMetaContext, queries("disk", wire.BaseAllocation))
	c.startTLS(id.client())
	c.expect(wire.RepErrInvalid, wire.OptSetMetaContext, queries("disk", wire.BaseAllocation))
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive() // with simple replies
}

// Words in the clear that follow STARTTLS at once are not taken for the client's.
func TestTLSTakesNoWordsFromBefore(t *testing.T) {
	c := dialPlain(t, "tcp", serveTLS(t, "tcp", newIdentity(t).server()))
	c.send(append(wire.AppendOption(nil, wire.OptStartTLS, nil), wire.AppendOption(nil, wire.OptGo, export("disk"))...))
	if got := c.answers(wire.OptStartTLS); got[0].kind != wire.RepAck {
		t.Fatalf("STARTTLS: %v", got)
	}
	rest, _ := io.ReadAll(c.conn) // however it ends
	if bytes.Contains(rest, wire.AppendOptReply(nil, wire.OptGo, wire.RepAck, 0)) {
		t.Error("a GO in the clear was answered behind STARTTLS")
	}
}

func TestClientNeedsItsCertificate(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	config := id.server()
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, id.trust
	address := serveTLS(t, "tcp", config)
	for name, certificates := range map[string][]tls.Certificate{"none": nil, "another": {other.certificate}} {
		c := dialPlain(t, "tcp", address)
		c.expect(wire.RepAck, wire.OptStartTLS, nil)
		client := id.client()
		client.Certificates = certificates
		secure := tls.Client(c.conn, client)
		err := secure.Handshake()
		if err == nil { // TLS 1.3: the server's verdict comes behind the handshake
			_, err = secure.Read(make([]byte, 1))
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: let in: %v", name, err)
		}
	}
	c := dialPlain(t, "tcp", address)
	client := id.client()
	client.Certificates = []tls.Certificate{id.certificate}
	c.startTLS(client)
	c.expect(wire.RepAck, wire.OptGo, export("disk"))
	c.alive()
}

// libnbd negotiates TLS with us and sees the export.
func TestNbdinfoOverTLS(t *testing.T) {
	tool, err := exec.LookPath("nbdinfo")
	if err != nil {
		t.Skip("SKIPPED: nbdinfo is missing: install the Debian package libnbd-bin")
	}
	id := newIdentity(t)
	_, port, err := net.SplitHostPort(serveTLS(t, "tcp", id.server()))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.certificate.Certificate[0]})
	if err := os.WriteFile(filepath.Join(dir, "ca-cert.pem"), authority, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool, "nbds://localhost:"+port+"/disk?tls-certificates="+dir).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "with TLS") || !strings.Contains(string(out), "export-size: 1048576") {
		t.Errorf("nbdinfo: %v\n%s", err, out)
	}
}
