package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// streamLine is one message as `events` prints it.
type streamLine struct {
	Stream   string         `json:"stream"`
	Sequence uint64         `json:"sequence"`
	Subject  string         `json:"subject"`
	Kind     string         `json:"kind"`
	Event    map[string]any `json:"event"`
	Error    string         `json:"error"`
}

func decodeLine(t testing.TB, line string) streamLine {
	t.Helper()
	var s streamLine
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return s
}

// jetStream connects to a site's NATS as any program could.
func (s *site) jetStream() jetstream.JetStream {
	s.t.Helper()
	nc, err := nats.Connect(s.url())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.t.Fatal(err)
	}
	return js
}

// probeStream is where the embedded server tries out, at its start, how a log is synced:
// no fact of the site's is in it.
const probeStream = "TIDEMARK_PROBE"

// streams names all streams that hold facts of the site.
func (s *site) streams() []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	list := s.jetStream().StreamNames(ctx)
	var names []string
	for name := range list.Name() {
		if name != probeStream {
			names = append(names, name)
		}
	}
	if err := list.Err(); err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// TestEveryPayloadDecodes checks that the log can be read by a person: `events` prints
// every stream, and `decode` reads the raw bytes of every message.
func TestEveryPayloadDecodes(t *testing.T) {
	t.Parallel()
	east, west := pair(t)
	east.createImage("vms/prod/disk0", "8MiB")
	l := newLoad(t, 8<<20, "vms/prod/disk0")
	w := l.start(east)
	w.awaitWrites(50)
	w.end()
	conn := east.dial("vms/prod/disk0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.Trim(ctx, 0, 1<<20, true); err != nil {
		t.Fatal(err)
	}
	if err := conn.Zero(ctx, 1<<20, 4096, true); err != nil {
		t.Fatal(err)
	}
	east.must("image", "create", "vms/prod/other", "--size", "8MiB")
	east.must("image", "resize", "vms/prod/other", "--size", "9MiB")
	east.must("image", "remove", "vms/prod/other")
	west.must("mirror", "add", "vms/prod")
	awaitLevel(t, east, west, "vms/prod")
	kinds := map[string]bool{}
	for _, s := range []*site{east, west} {
		for _, stream := range s.streams() {
			checkStream(t, s, stream, kinds)
		}
	}
	for _, kind := range []string{"tag", "batch", "pool_created", "directory_created", "directory_mapped", "position_committed", "lifecycle_noted"} {
		if !kinds[kind] {
			t.Errorf("no message of kind %s was seen, only %v", kind, kinds)
		}
	}
}

// checkStream reads a stream with `events`, and some of its messages (the first and
// last of each kind) with `decode`.
func checkStream(t *testing.T, s *site, stream string, kinds map[string]bool) {
	t.Helper()
	forgetful := []string{events.StreamPositions, events.StreamLifecycle, events.StreamDeliveries}
	chosen := map[uint64]string{}
	first, last := map[string]uint64{}, map[string]uint64{}
	var before uint64
	for line := range strings.Lines(s.must("events", "--stream", stream)) {
		m := decodeLine(t, line)
		if m.Error != "" || m.Kind == "" || m.Event == nil || m.Stream != stream || m.Sequence <= before {
			t.Errorf("%s: a message that cannot be read: %s", s.name, line)
		}
		before = m.Sequence
		kinds[m.Kind] = true
		if first[m.Kind] == 0 {
			first[m.Kind] = m.Sequence
		}
		last[m.Kind] = m.Sequence
	}
	for kind, seq := range first {
		chosen[seq], chosen[last[kind]] = kind, kind
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	handle, err := s.jetStream().Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	for seq, kind := range chosen {
		raw, err := handle.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) && slices.Contains(forgetful, stream) {
			continue
		}
		if err != nil {
			t.Errorf("%s: message %d of %s: %v", s.name, seq, stream, err)
			continue
		}
		r := runCommand(t, raw.Data, "decode")
		if r.code != 0 || decodeLine(t, r.stdout).Kind != kind {
			t.Errorf("%s: message %d of %s is a %s to events: %s", s.name, seq, stream, kind, r)
		}
	}
}
