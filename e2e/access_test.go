package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/keys"
)

// guardedSite is a site that lets only users in, over TLS.
func guardedSite(t *testing.T, name, cert, key string) *site {
	t.Helper()
	s := newSite(t, name, "--auth", "--nats-tls-cert", cert, "--nats-tls-key", key, "--nats-ca", cert, "--log-level", "debug")
	s.ca = cert
	s.creds = filepath.Join(s.data(), "operator.nk")
	s.start()
	return s
}

// certify writes a certificate for 127.0.0.1 that signs itself, and its key.
func certify(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
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
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}

// TestGuardedSites goes through the life of a replica between two sites that let only users in:
// a token, following, failing over and back, verify and resync; what a stranger and the other
// site's key are refused; and that no secret is to be found anywhere but in its file.
// directories 12, 20, 23, 25.
func TestGuardedSites(t *testing.T) {
	t.Parallel()
	cert, key := certify(t)
	east, west := guardedSite(t, "east", cert, key), guardedSite(t, "west", cert, key)
	if guest(t, east, cert, nil) != nil {
		t.Error("a stranger comes in")
	}

	for _, s := range []*site{east, west} {
		s.must("pool", "create", "vms")
	}
	east.must("pool", "create", "private")
	east.createImage("private/secret/a", "4MiB")
	token := strings.TrimSpace(east.must("mirror", "peer", "create-token", "vms"))
	file := filepath.Join(west.dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	bearerMayOnlyJoin(t, east, cert, seedOf(t, token))
	west.must("mirror", "peer", "import-token", "vms", "--token-file", file)
	east.createImage("vms/prod/a", "16MiB")
	west.must("mirror", "add", "vms/prod")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(east)
	w.awaitWrites(50)
	w.end()
	awaitLevel(t, east, west, "vms/prod")
	l.demandComplete(west)

	peerMayOnlyFollow(t, east, west, cert)

	east.must("mirror", "demote", "vms/prod")
	west.promote("vms/prod")
	w = l.start(west)
	w.awaitWrites(20)
	w.end()
	awaitLevel(t, west, east, "vms/prod")
	west.must("mirror", "demote", "vms/prod")
	east.promote("vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	west.must("mirror", "verify", "vms/prod")

	// A split brain, which the key of the site is needed to find and to repair.
	west.must("mirror", "promote", "--force", "vms/prod")
	west.must("mirror", "demote", "vms/prod")
	west.must("mirror", "resync", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	sameContent(t, east, west, "vms/prod/a")

	removedPeerIsOut(t, east, west, cert)
	r := west.run("mirror", "peer", "import-token", "vms", "--token-file", file, "-o", "json")
	if e := r.problem(t); r.code == 0 {
		t.Errorf("a token was used twice: %+v", e)
	}
	secretsAreNowhere(t, []*site{east, west}, token)
}

// guest comes in at a site with a key; nil if it is refused.
func guest(t *testing.T, s *site, cert string, key *keys.Key) *nats.Conn {
	t.Helper()
	trust, err := keys.Trust(cert)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.url(), append(key.Options(), keys.Trusting(trust), nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if errors.Is(err, nats.ErrAuthorization) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// awaitGuest comes in as soon as the server knows of the key.
func awaitGuest(t *testing.T, s *site, cert string, key *keys.Key) (nc *nats.Conn) {
	t.Helper()
	await(t, patience, "the key is let in at "+s.name, func() error {
		nc = guest(t, s, cert, key)
		return unless(nc != nil, "it is refused")
	})
	return nc
}

func seedOf(t *testing.T, token string) *keys.Key {
	t.Helper()
	content := tokenContent(t, token)
	key, err := keys.Parse([]byte(content["seed"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func tokenContent(t *testing.T, token string) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "tidemark1."))
	content := map[string]any{}
	if err := errors.Join(err, json.Unmarshal(raw, &content)); err != nil {
		t.Fatal(err)
	}
	return content
}

// refusedAll demands that a user gets no answer to any of some requests, and may not publish
// into a stream.
func refusedAll(t *testing.T, nc *nats.Conn, subjects ...string) {
	t.Helper()
	for _, subject := range subjects {
		sub, err := nc.SubscribeSync(nc.NewInbox())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(nc.PublishRequest(subject, sub.Subject, []byte("{}")), nc.Flush()); err != nil {
			t.Fatal(err)
		}
		if m, err := sub.NextMsg(100 * time.Millisecond); err == nil && m.Header.Get("Status") != "503" {
			t.Errorf("%s is answered: %s", subject, m.Data)
		}
		if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s is not refused: %v", subject, err)
		}
	}
}

func bearerMayOnlyJoin(t *testing.T, s *site, cert string, key *keys.Key) {
	t.Helper()
	nc := awaitGuest(t, s, cert, key)
	defer nc.Close()
	refusedAll(t, nc, api.PoolList, api.SiteInfo, api.SharedList("vms"), api.PoolCreate, "$JS.API.INFO", "$JS.API.STREAM.NAMES")
}

// peerMayOnlyFollow tries with the key of a site what is not a peer's.
func peerMayOnlyFollow(t *testing.T, at, of *site, cert string) {
	t.Helper()
	key, err := keys.Load(filepath.Join(of.data(), "site.nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc := awaitGuest(t, at, cert, key)
	defer nc.Close()
	private, shared := directoryID(at, "private/secret"), directoryID(at, "vms/prod")
	stream := events.JournalStream(events.DirectoryName{Pool: "private", Path: "/secret"}, private)
	refusedAll(t, nc,
		events.EntriesSubject(at.name, shared), events.TagSubject(at.name, shared), events.PositionSubject(shared, "west.west-1"),
		"tidemark.pool.vms.peer_added", "tidemark.directory.x.y", "tidemark.control.east-1.journal",
		"$JS.API.STREAM.INFO."+stream, "$JS.API.STREAM.MSG.GET."+stream, "$JS.API.CONSUMER.CREATE."+stream+".c", "$JS.API.CONSUMER.CREATE.POOLS.c",
		"$JS.API.STREAM.DELETE."+events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, shared),
		api.HolderSubject(private, api.DirectoryStatus), api.HolderSubject(shared, api.ImageRemove), api.HolderSubject(shared, api.JournalReset),
		api.SharedList("private"), api.DirectoryList, api.PoolRemove, api.PeerToken, api.PeerRemove, api.MirrorPromote, api.LogSync,
	)
	if _, err := api.Call[[]api.Directory](t.Context(), nc, api.SharedList("vms"), api.PoolFilter{Pool: "private"}); err == nil {
		t.Error("a peer lists the directories of a pool that is not shared")
	}
	if list, err := api.Call[[]api.Directory](t.Context(), nc, api.SharedList("vms"), api.PoolFilter{Pool: "vms"}); err != nil || len(list) != 1 {
		t.Errorf("a peer asks for what is shared: %+v, %v", list, err)
	}
}

func directoryID(s *site, name string) events.DirectoryID {
	s.t.Helper()
	return query[api.Directory](s, "dir", "info", name).ID
}

// removedPeerIsOut: the connections of a peer that is removed are closed, and it does not come
// in again.
func removedPeerIsOut(t *testing.T, at, of *site, cert string) {
	t.Helper()
	key, err := keys.Load(filepath.Join(of.data(), "site.nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc := awaitGuest(t, at, cert, key)
	at.must("mirror", "peer", "remove", "vms", of.name)
	await(t, patience, "the connection of the former peer is closed", func() error {
		return unless(nc.IsClosed(), "it is %s", nc.Status())
	})
	if guest(t, at, cert, key) != nil {
		t.Error("a former peer comes in")
	}
}

// secretsAreNowhere looks for the secrets of a token and of key files in all that the sites
// have written and show: logs at debug level, the store of NATS, status.
func secretsAreNowhere(t *testing.T, sites []*site, token string) {
	t.Helper()
	content := tokenContent(t, token)
	secrets := map[string]string{"the token": token, "its secret": content["secret"].(string), "its seed": content["seed"].(string)}
	for _, s := range sites {
		files, err := filepath.Glob(filepath.Join(s.data(), "*.nk"))
		if err != nil || len(files) < 8 {
			t.Fatalf("%d key files, %v", len(files), err)
		}
		for _, file := range files {
			info, err := os.Stat(file)
			text, readErr := os.ReadFile(file)
			if err := errors.Join(err, readErr); err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", file, info.Mode())
			}
			secrets[file] = strings.TrimSpace(string(text))
		}
	}
	for _, s := range sites {
		shown := s.must("status", "-o", "json") + s.must("mirror", "peer", "list", "vms", "-o", "json") + s.must("events")
		search(t, "what commands show at "+s.name, []byte(shown), secrets)
		err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".nk") || filepath.Base(path) == "token" {
				return nil //nolint:nilerr // what is gone meanwhile holds nothing
			}
			if text, err := os.ReadFile(path); err == nil {
				search(t, path, text, secrets)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func search(t *testing.T, where string, text []byte, secrets map[string]string) {
	t.Helper()
	for what, secret := range secrets {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds %s", where, what)
		}
	}
}

// TestGuardedProcesses runs each service in a process of its own, that comes in with the key of
// that service, at a server that one of them embeds. What a service needs and may not is an error
// in its log, and fails the test.
func TestGuardedProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(t, "east")
	s.creds = filepath.Join(s.data(), "operator.nk")
	policy := s.serve("policy", "--services", "policy", "--nats-listen", s.nats, "--auth", "--http", "")
	parts := []*process{policy}
	for _, service := range []string{"notifier", "journal", "replayer"} {
		socket := s.socket
		if service == "replayer" {
			socket = filepath.Join(s.dir, "ro")
		}
		await(t, patience, "the key of "+service+" is there", func() error {
			_, err := os.Stat(filepath.Join(s.data(), service+".nk"))
			return err
		})
		parts = append(parts, s.serve(service, "--services", service, "--nats-url", s.url(),
			"--creds", filepath.Join(s.data(), service+".nk"), "--http", "", "--nbd", "unix:"+socket))
	}
	for _, p := range parts {
		p.awaitReady(t)
	}
	s.createImage("vms/prod/a", "16MiB")
	l := newLoad(t, 16<<20, "vms/prod/a")
	w := l.start(s)
	w.awaitWrites(50)
	w.end()
	s.must("snap", "create", "vms/prod@monday")
	s.must("mirror", "enable", "vms")
	s.must("mirror", "demote", "vms/prod")
	s.must("mirror", "promote", "vms/prod")
	l.demandComplete(s)
	r := s.run("--creds", filepath.Join(s.data(), "monitor.nk"), "status")
	if r.code != 0 {
		t.Errorf("a monitor looks on: %s", r)
	}
	for i := len(parts) - 1; i >= 0; i-- {
		if code := parts[i].stop(t); code != 0 {
			t.Errorf("%s ended with exit code %d", parts[i].name, code)
		}
	}
}
