package natsd

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/internal/api"
	"tidemark/internal/fault"
)

const (
	testStream  = "JOURNAL_test"
	testSubject = "test.entries"
)

func config(dir string) Config {
	return Config{Name: "test", Dir: dir, Listen: "127.0.0.1:0", Sync: SyncFiles, Log: slog.New(slog.DiscardHandler)}
}

func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// client is a connection to a server with its one stream.
type client struct {
	t      testing.TB
	nc     *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

func connect(t testing.TB, s *Server) *client {
	t.Helper()
	nc, err := nats.Connect("", s.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateOrUpdateStream(t.Context(), streamConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, nc, js, stream}
}

// streamConfig is that of a journal; see package bus.
func streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: testStream, Subjects: []string{testSubject}, MaxBytes: 1 << 30, Discard: jetstream.DiscardNew, AllowDirect: true,
	}
}

// payload is the content of the message with a number: told by the number alone.
func payload(number uint64) []byte {
	rng := rand.New(rand.NewPCG(number, 1))
	size := 1 << rng.IntN(20) // 1 B to 512 KiB
	data := make([]byte, max(8, size/2+rng.IntN(size/2+1)))
	for i := 0; i+8 <= len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], rng.Uint64())
	}
	if number%16 == 0 {
		data = data[:1+number%8]
	}
	return data
}

// publish appends the message with a number.
func (c *client) publish(number uint64) int {
	c.t.Helper()
	data := payload(number)
	ack, err := c.js.Publish(c.t.Context(), testSubject, data)
	if err != nil {
		c.t.Fatal(err)
	}
	if ack.Sequence != number {
		c.t.Fatalf("message %d got sequence %d", number, ack.Sequence)
	}
	return len(data)
}

// publishBytes appends messages from a number on until they hold so many bytes; it
// returns the last number.
func (c *client) publishBytes(number uint64, n int) uint64 {
	c.t.Helper()
	for {
		n -= c.publish(number)
		if n <= 0 {
			return number
		}
		number++
	}
}

// mustHold demands that the messages between two numbers are there, byte for byte.
func (c *client) mustHold(from, to uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	for number := from; number <= to; number++ {
		m, err := c.stream.GetMsg(ctx, number)
		if err != nil {
			c.t.Fatalf("message %d of %d to %d: %v", number, from, to, err)
		}
		if string(m.Data) != string(payload(number)) {
			c.t.Fatalf("message %d has another content", number)
		}
	}
}

func (c *client) last() uint64 {
	c.t.Helper()
	info, err := c.stream.Info(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return info.State.LastSeq
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := start(t, config(dir))
	c := connect(t, s)
	last := c.publishBytes(1, 1<<20)
	c.nc.Close()
	s.Stop()
	again := start(t, config(dir))
	c = connect(t, again)
	if got := c.last(); got != last {
		t.Fatalf("%d messages after the restart, %d before", got, last)
	}
	c.mustHold(1, last)
	c.publish(last + 1)
	if err := again.Healthy(); err != nil {
		t.Errorf("healthy: %v", err)
	}
	if err := again.Sync(t.Context(), testStream); err != nil {
		t.Error(err)
	}
	again.Stop()
	if again.Healthy() == nil {
		t.Error("a stopped server calls itself healthy")
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []SyncMode{SyncFiles, SyncAlways, SyncNever} {
		t.Run(string(mode), func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.Sync = mode
			s := start(t, cfg)
			c := connect(t, s)
			c.publish(1)
			if s.SyncMode() != mode {
				t.Errorf("mode %s", s.SyncMode())
			}
			if err := s.Sync(t.Context(), testStream); err != nil {
				t.Error(err)
			}
			if err := s.Trimmed(t.Context(), testStream); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusedStarts(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ended, config(t.TempDir())); err == nil {
		t.Error("started for a caller that was gone")
	}
	for _, address := range []string{"", "localhost", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1"} {
		cfg := config(t.TempDir())
		cfg.Listen = address
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("listens on %q", address)
		}
	}
}

func TestSyncOfNoStream(t *testing.T) {
	s := start(t, config(t.TempDir()))
	for i := range 100 {
		if err := s.Sync(t.Context(), fmt.Sprint("NONE", i)); err == nil {
			t.Error("a stream that is not there was synced")
		}
	}
	if n := len(s.files.open); n > 1 { // the probe's own
		t.Errorf("%d streams are remembered", n)
	}
}

// TestHandlers asks a server over the network to sync.
func TestHandlers(t *testing.T) {
	s := start(t, config(t.TempDir()))
	c := connect(t, s)
	c.publish(1)
	stop, err := api.Serve(t.Context(), c.nc, slog.New(slog.DiscardHandler), s.Handlers()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	d := watch(t, s)
	call := func(r api.LogSyncRequest) error {
		_, err := api.Call[api.Nothing](t.Context(), c.nc, api.LogSync, r)
		return err
	}
	for _, trimmed := range []bool{false, true} {
		if err := call(api.LogSyncRequest{Stream: testStream, Trimmed: trimmed}); err != nil || len(d.taken()) == 0 {
			t.Errorf("trimmed %v: %v", trimmed, err)
		}
	}
	for _, stream := range []string{"", "..", "../..", "a/b", `a\b`, "*", "a\x00"} {
		if err := call(api.LogSyncRequest{Stream: stream}); fault.CodeOf(err) != fault.Usage {
			t.Errorf("stream %q: %v", stream, err)
		}
	}
	if err := call(api.LogSyncRequest{Stream: "NONE"}); err == nil || len(d.taken()) != 0 {
		t.Errorf("a stream that is not there: %v", err)
	}
	info, err := api.Call[api.LogInfoReply](t.Context(), c.nc, api.LogInfo, api.Nothing{})
	if err != nil || info.Sync != "files" {
		t.Errorf("info: %+v, %v", info, err)
	}
}
