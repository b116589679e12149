package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"tidemark/internal/access"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
	"tidemark/internal/natsd"
	"tidemark/internal/sitetest"
)

// guardedServer is a NATS server that lets one user in, over TLS or not.
func guardedServer(t *testing.T, seed *keys.Key, config *tls.Config) *natsd.Server {
	t.Helper()
	cfg := natsd.Config{
		Name: "guarded", Dir: t.TempDir(), Listen: "127.0.0.1:0", Sync: natsd.SyncNever, Auth: true, TLS: config,
		Log: slog.New(slog.DiscardHandler),
	}
	if seed != nil {
		cfg.Users = []access.User{access.Joining("east", "vms").User(seed.Public())}
	}
	s, err := natsd.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// listener takes connections and does with each what it is told, and nothing else.
func listener(t *testing.T, with func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go with(conn)
		}
	}()
	return l.Addr().String()
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}, MinVersion: tls.VersionTLS12}
}

// TestImportSaysWhatFailed: each failure names the site, the address and the step, and what is
// wrong there. directories 13, 14.
func TestImportSaysWhatFailed(t *testing.T) {
	east, west, logs := twoSites(t)
	token := east.token(0).Token
	key, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	open, closed := guardedServer(t, key, nil), guardedServer(t, nil, nil)
	untrusted := guardedServer(t, key, selfSigned(t))
	hole := listener(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	web := listener(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); _ = c.Close() })
	for _, c := range []struct {
		name, address string
		code          fault.Code
		says          string
	}{
		{"denied: the key was used, has expired or is void", closed.URL(), fault.Denied, "refuses the token"},
		{"let in, but nobody answers", open.URL(), fault.Timeout, "join site east"},
		{"another server", "nats://" + web, fault.Timeout, "connect to site east"},
		{"no server", "nats://127.0.0.1:1", fault.Timeout, "no servers available"},
		{"a black hole", "nats://" + hole, fault.Timeout, "timeout"},
		{"a certificate that nobody knows", untrusted.URL(), fault.Denied, "certificate is not trusted"},
		{"TLS where there is none", strings.Replace(open.URL(), "nats://", "tls://", 1), fault.Denied, "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			forged := forge(t, token, map[string]any{"url": c.address, "seed": seed})
			begun := time.Now()
			west.refused(c.code, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: forged}, "import token", "site east", strings.SplitN(c.address, "//", 2)[1], c.says)
			sitetest.Prompt(t, "saying so", begun, 12*time.Second)
		})
	}
	west.refused(fault.Usage, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: forge(t, token, map[string]any{"seed": "SUAnone"})}, "not a bootstrap token")
	if len(west.peers()) != 0 {
		t.Errorf("peers of west: %+v", west.peers())
	}
	if strings.Contains(logs.String(), seed) {
		t.Error("the seed is in the logs")
	}
}

// TestImportWaitsForTheGate: a token that was made a moment ago may be unknown to the NATS of its
// site for as long as that is left in peace between two changes of its users. It is tried again.
func TestImportWaitsForTheGate(t *testing.T) {
	east, west, _ := twoSites(t)
	token := east.token(0).Token
	key, err := keys.New()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	const late = 3 * time.Second
	server := guardedServer(t, nil, nil)
	told := make(chan error, 1)
	time.AfterFunc(late, func() {
		told <- server.SetUsers([]access.User{access.Joining("east", "vms").User(key.Public())})
	})
	// It is let in, where nobody answers.
	west.refused(fault.Timeout, api.PeerImport, api.PeerImportRequest{
		Pool: "vms", Token: forge(t, token, map[string]any{"url": server.URL(), "seed": seed}),
	}, "join site east")
	if err := <-told; err != nil {
		t.Fatal(err)
	}
}
