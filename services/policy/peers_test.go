package policy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// lockedBuffer collects logs of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// twoSites are east, which creates tokens, and west, which imports them.
func twoSites(t *testing.T) (east, west *world, logs *lockedBuffer) {
	t.Helper()
	logs = &lockedBuffer{}
	log := slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	east, west = newLoggedWorld(t, "east", log), newLoggedWorld(t, "west", log)
	for _, w := range []*world{east, west} {
		w.startPolicy()
		call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	}
	return east, west, logs
}

func (w *world) token(expires time.Duration) api.PeerTokenReply {
	w.t.Helper()
	return call[api.PeerTokenReply](w, api.PeerToken, api.PeerTokenRequest{Pool: "vms", Expires: expires})
}

func (w *world) peers() []api.Peer {
	w.t.Helper()
	return call[[]api.Peer](w, api.PeerList, api.Pool{Pool: "vms"})
}

// content decodes a token, to change it.
func content(t *testing.T, token string) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "tidemark1."))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func forge(t *testing.T, token string, changes map[string]any) string {
	t.Helper()
	m := content(t, token)
	for k, v := range changes {
		m[k] = v
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return "tidemark1." + base64.RawURLEncoding.EncodeToString(raw)
}

// directories 3, 4, 12, 20, 23, 25.
func TestTokenImport(t *testing.T) {
	east, west, logs := twoSites(t)
	token := east.token(0)
	if strings.ContainsAny(token.Token, " \n") || !strings.HasPrefix(token.Token, "tidemark1.") || !token.Enabled {
		t.Errorf("token %+v", token)
	}
	if left := time.Until(token.Expires.Time()); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("the token lives %s", left)
	}
	if again := east.token(time.Hour); again.Enabled {
		t.Error("mirroring was on already")
	}
	peer := call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token.Token + "\n"})
	if peer.Site != "east" || peer.Peer != east.node.Site.UUID || peer.URL != east.node.URL || peer.Direction != events.ReceiveAndSend {
		t.Errorf("imported: %+v", peer)
	}
	if p := west.peers(); len(p) != 1 || p[0] != peer {
		t.Errorf("peers of west: %+v", p)
	}
	if p := east.peers(); len(p) != 1 || p[0].Site != "west" || p[0].URL != west.node.URL || p[0].Direction != events.ReceiveAndSend {
		t.Errorf("peers of east: %+v", p)
	}
	if p := call[[]api.Pool](west, api.PoolList, api.Nothing{}); !p[0].Mirroring || p[0].Peers != 1 {
		t.Errorf("pools of west: %+v", p)
	}
	west.refused(fault.Exists, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token.Token}, "east")
	// The other way round they are peers already, too.
	east.refused(fault.Exists, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: west.token(0).Token}, "west")

	west.refused(fault.NotFound, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "north"}, "north")
	call[api.Nothing](west, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: "east"})
	call[api.Nothing](east, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: west.node.Site.UUID})
	if len(west.peers())+len(east.peers()) != 0 {
		t.Errorf("peers are left: %+v %+v", west.peers(), east.peers())
	}
	noSecrets(t, content(t, token.Token)["secret"].(string), logs, east, west)
}

// noSecrets looks for a secret in logs and streams.
func noSecrets(t *testing.T, secret string, logs *lockedBuffer, sites ...*world) {
	t.Helper()
	if len(secret) != 43 {
		t.Errorf("the secret has %d characters, want those of 32 bytes", len(secret))
	}
	if strings.Contains(logs.String(), secret) {
		t.Error("the secret is in the logs")
	}
	for _, w := range sites {
		state, err := w.bus.State(t.Context(), events.StreamPools)
		if err != nil {
			t.Fatal(err)
		}
		err = w.bus.ReadTo(t.Context(), events.StreamPools, 1, state.Last, func(m bus.Message) error {
			if bytes.Contains(m.Data, []byte(secret)) {
				t.Errorf("the secret is in message %d of %s", m.Sequence, w.node.Site.Name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// directories 6, 13, 14, 15, 19.
func TestTokenErrors(t *testing.T) {
	east, west, logs := twoSites(t)
	for _, expires := range []time.Duration{-1, 31 * 24 * time.Hour} {
		east.refused(fault.Usage, api.PeerToken, api.PeerTokenRequest{Pool: "vms", Expires: expires})
	}
	east.refused(fault.NotFound, api.PeerToken, api.PeerTokenRequest{Pool: "nowhere"})
	token := east.token(0).Token
	importing := func(token string) api.PeerImportRequest {
		return api.PeerImportRequest{Pool: "vms", Token: token}
	}
	empty := base64.RawURLEncoding.EncodeToString
	for _, garbage := range []string{
		"", "garbage", "tidemark1.", "tidemark2." + token[10:], "tidemark1.!!!", token[:len(token)-7], token + "AAAA",
		"tidemark1." + empty([]byte("{}")), "tidemark1." + empty([]byte("[[[[")), "tidemark1." + empty([]byte("null")),
		"tidemark1." + strings.Repeat("A", 100000),
		forge(t, token, map[string]any{"version": 2}), forge(t, token, map[string]any{"more": 1}),
		forge(t, token, map[string]any{"url": "file:///etc/passwd"}), forge(t, token, map[string]any{"url": "nats://me:secret@host"}),
		forge(t, token, map[string]any{"uuid": "a.b"}), forge(t, token, map[string]any{"site": ".."}),
		forge(t, token, map[string]any{"expires": nil}), forge(t, token, map[string]any{"secret": ""}),
	} {
		west.refused(fault.Usage, api.PeerImport, importing(garbage), "not a bootstrap token")
	}
	west.refused(fault.NotFound, api.PeerImport, api.PeerImportRequest{Pool: "nowhere", Token: token}, "pool create nowhere")
	call[api.Pool](west, api.PoolCreate, api.Pool{Pool: "other"})
	west.refused(fault.Usage, api.PeerImport, api.PeerImportRequest{Pool: "other", Token: token}, `"vms"`, `"other"`)
	west.refused(fault.Usage, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token, Direction: "tx-only"}, "rx-tx")
	east.refused(fault.Busy, api.PeerImport, importing(token), "own peer")

	wrong := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	west.refused(fault.Denied, api.PeerImport, importing(forge(t, token, map[string]any{"secret": wrong})), "east", east.node.URL, "not valid")
	west.refused(fault.Denied, api.PeerImport, importing(forge(t, token, map[string]any{"token": "feed"})), "not valid")
	west.refused(fault.Denied, api.PeerImport, importing(forge(t, token, map[string]any{"expires": "2020-01-01T00:00:00Z"})), "expired")
	west.refused(fault.Denied, api.PeerImport, importing(forge(t, token, map[string]any{"uuid": "feed"})), "another site")
	west.refused(fault.Timeout, api.PeerImport, importing(forge(t, token, map[string]any{"url": "nats://127.0.0.1:1"})), "connect to site east", "127.0.0.1:1")
	if p := west.peers(); len(p) != 0 {
		t.Errorf("peers of west: %+v", p)
	}
	noSecrets(t, content(t, token)["secret"].(string), logs, east, west)
}

// The token's own site looks at the clock, too: a forged date does not help.
func TestExpiredToken(t *testing.T) {
	east, west, _ := twoSites(t)
	token := east.token(time.Nanosecond).Token
	west.refused(fault.Denied, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token}, "expired")
	forged := forge(t, token, map[string]any{"expires": time.Now().Add(time.Hour)})
	west.refused(fault.Denied, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: forged}, "expired", east.node.URL)
}

// An address where something listens and says nothing does not hold anybody up.
func TestSilentAddress(t *testing.T) {
	east, west, _ := twoSites(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	token := forge(t, east.token(0).Token, map[string]any{"url": fmt.Sprintf("nats://%s", listener.Addr())})
	done := make(chan error, 1)
	go func() {
		_, err := try[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token})
		done <- err
	}()
	call[api.Pool](west, api.PoolCreate, api.Pool{Pool: "meanwhile"}) // nothing is locked
	if err := <-done; fault.CodeOf(err) != fault.Timeout || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestReceiveOnly(t *testing.T) {
	east, west, _ := twoSites(t)
	call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: east.token(0).Token, Direction: events.ReceiveOnly})
	if p := east.peers(); len(p) != 1 || p[0].Direction != events.SendOnly || p[0].URL != "" {
		t.Errorf("peers of east: %+v", p)
	}
	call[api.Directory](west, api.MirrorAdd, dir("vms", "/db"))
	east.refused(fault.NotReady, api.MirrorAdd, dir("vms", "/db"))
}

// Two sites that drew the same number: the importing one draws again.
func TestSameNumber(t *testing.T) {
	east, west, _ := twoSites(t)
	number := east.node.Site.Number
	same := west.node.Site
	west.publish(events.StreamPools, &events.SiteNumbered{Site: same.UUID, Name: same.Name, Number: number})
	call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: east.token(0).Token})
	info := call[api.Site](west, api.SiteInfo, api.Nothing{})
	if info.Number == number || info.Number == 0 {
		t.Errorf("west has number %d, east %d", info.Number, number)
	}
	for _, f := range east.facts(events.StreamPools) {
		if f, ok := f.(*events.PeerAdded); ok && f.Number != info.Number {
			t.Errorf("east believes that west has number %d, not %d", f.Number, info.Number)
		}
	}
	if p := east.peers(); len(p) != 1 {
		t.Errorf("peers of east: %+v", p)
	}
}

// A token lets in one site, and lets it in no more once it was removed.
func TestUsedToken(t *testing.T) {
	east, west, _ := twoSites(t)
	token := east.token(0).Token
	in := content(t, token)
	join := func(uuid string) api.JoinRequest {
		return api.JoinRequest{
			Pool: "vms", Token: in["token"].(string), Secret: in["secret"].(string), Site: "west", UUID: uuid,
			URL: "nats://127.0.0.1:1", Direction: events.ReceiveAndSend,
		}
	}
	call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token})
	east.refused(fault.Denied, api.PeerJoin, join("feed"), "used by another site")
	// The answer may have been lost: it asks again.
	call[api.JoinReply](east, api.PeerJoin, join(west.node.Site.UUID))
	if p := east.peers(); len(p) != 1 || p[0].Peer != west.node.Site.UUID {
		t.Errorf("peers of east: %+v", p)
	}
	for _, w := range []*world{east, west} {
		call[api.Nothing](w, api.PeerRemove, api.PeerRemoveRequest{Pool: "vms", Peer: w.peers()[0].Peer})
	}
	const why = "the token was used up: its peer was removed"
	west.refused(fault.Denied, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: token}, why)
	east.refused(fault.Denied, api.PeerJoin, join(west.node.Site.UUID), why)
	east.refused(fault.Denied, api.PeerJoin, join("feed"), "used by another site")
	if p := append(east.peers(), west.peers()...); len(p) != 0 {
		t.Errorf("peers are left: %+v", p)
	}
	call[api.Peer](west, api.PeerImport, api.PeerImportRequest{Pool: "vms", Token: east.token(0).Token})
}

// What comes in at the joining subject without a token.
func TestJoinErrors(t *testing.T) {
	east, _, _ := twoSites(t)
	good := api.JoinRequest{Pool: "vms", Token: "feed", Secret: "x", Site: "west", UUID: "feed", URL: "nats://127.0.0.1:1", Direction: events.ReceiveAndSend}
	east.refused(fault.Denied, api.PeerJoin, good)
	for _, change := range []func(*api.JoinRequest){
		func(r *api.JoinRequest) { r.Site = "a>b" },
		func(r *api.JoinRequest) { r.UUID = "" },
		func(r *api.JoinRequest) { r.UUID = strings.Repeat("a", 100) },
		func(r *api.JoinRequest) { r.URL = "http://x" },
		func(r *api.JoinRequest) { r.URL = "" },
		func(r *api.JoinRequest) { r.Direction = "" },
		func(r *api.JoinRequest) { r.Direction = events.ReceiveOnly },
		func(r *api.JoinRequest) { r.Number = events.MaxSiteNumber + 1 },
	} {
		bad := good
		change(&bad)
		east.refused(fault.Usage, api.PeerJoin, bad)
	}
	good.Pool = "nowhere"
	east.refused(fault.Denied, api.PeerJoin, good)
}
