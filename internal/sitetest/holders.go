package sitetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
)

// Stored is a fact as a site's log has it.
type Stored struct {
	At       time.Time // when the server stored it
	Stream   string
	Sequence uint64
	Fact     events.Fact
}

// DemandOneHolder reads a site's control streams and fails the test where a directory could
// have been held by two at a time; see [HolderFaults]. It is called at the end of each test
// that moves a directory.
func DemandOneHolder(t testing.TB, nc *nats.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	facts, err := readStored(ctx, nc,
		events.StreamInstances, events.StreamPositions, events.StreamDirectories, events.StreamNotifications)
	if err != nil {
		t.Fatalf("read who held what: %v", err)
	}
	for _, fault := range HolderFaults(facts) {
		t.Error(fault)
	}
}

// readStored returns what streams hold, in the order in which the server stored it.
func readStored(ctx context.Context, nc *nats.Conn, streams ...string) ([]Stored, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var all []Stored
	for _, name := range streams {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		if stream.CachedInfo().State.Msgs == 0 {
			continue
		}
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", name, err)
		}
		for last := false; !last; {
			msg, err := consumer.Next(jetstream.FetchContext(ctx))
			if err != nil {
				return nil, fmt.Errorf("read stream %s: %w", name, err)
			}
			meta, err := msg.Metadata()
			if err != nil {
				return nil, fmt.Errorf("read stream %s: %w", name, err)
			}
			last = meta.NumPending == 0
			if fact, err := events.Unmarshal(msg.Data()); err == nil { // services pass over what is none
				all = append(all, Stored{meta.Timestamp, name, meta.Sequence.Stream, fact})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Stored) int { return a.At.Compare(b.At) })
	return all, nil
}

// HolderFaults says where facts, in the order in which they were stored, break what fencing
// promises:
//
//   - An incarnation that was removed, or that another one took the place of, is never added
//     again.
//   - From the request to acquire a directory to a refusal, to a release that is quiesced, or
//     to the fence of its epoch, nobody else is asked to acquire it.
//   - Only who is gone is fenced; the fence stands in POSITIONS before DIRECTORIES says so;
//     epochs of mappings grow, beyond each fence.
//   - A commit position was said under an assignment that was asked for, and none stands
//     behind a fence of its epoch.
func HolderFaults(facts []Stored) []string {
	c := holderCheck{
		alive: map[seat]string{}, gone: map[seat]bool{}, directories: map[events.DirectoryID]*heldDirectory{},
	}
	for _, f := range facts {
		c.fold(f)
	}
	c.checkPositions()
	return c.faults
}

// seat is one incarnation of a service of a node; without an incarnation the service itself.
type seat struct{ node, service, incarnation string }

func (s seat) vague() seat { return seat{s.node, s.service, ""} }

func seatOf(a events.Assignment) seat { return seat{a.Node, events.ServiceOf(a.Role), a.Incarnation} }

// tenure is one incarnation in one epoch of a directory.
type tenure struct {
	incarnation string
	epoch       uint64
}

type heldDirectory struct {
	holds   map[seat]events.Assignment
	pending map[string]events.Assignment // by operation
	asked   map[tenure]bool
	mapped  uint64 // the newest epoch
	fenced  uint64 // the greatest epoch that DIRECTORIES calls fenced
	fence   Stored // in POSITIONS
	said    []word
}

// word is a commit position and where it stands.
type word struct {
	Stored
	position *events.PositionCommitted
}

type holderCheck struct {
	alive       map[seat]string
	gone        map[seat]bool
	directories map[events.DirectoryID]*heldDirectory
	faults      []string
}

func (c *holderCheck) fault(s Stored, format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf("%s %d, a %s: ", s.Stream, s.Sequence, s.Fact.Kind())+fmt.Sprintf(format, args...))
}

func (c *holderCheck) directory(id events.DirectoryID) *heldDirectory {
	if c.directories[id] == nil {
		c.directories[id] = &heldDirectory{
			holds: map[seat]events.Assignment{}, pending: map[string]events.Assignment{}, asked: map[tenure]bool{},
		}
	}
	return c.directories[id]
}

func (c *holderCheck) fold(s Stored) {
	switch f := s.Fact.(type) {
	case *events.InstanceAdded:
		c.added(s, seat{f.Node, f.Service, f.Incarnation})
	case *events.InstanceRemoved:
		c.gone[seat{f.Node, f.Service, f.Incarnation}] = true
	case *events.DirectoryMapped:
		d := c.directory(f.Directory)
		if f.Epoch <= max(d.mapped, d.fenced) {
			c.fault(s, "epoch %d of %s follows %d, and %d is fenced", f.Epoch, f.Directory, d.mapped, d.fenced)
		}
		d.mapped = max(d.mapped, f.Epoch)
	case *events.DirectoryFenced:
		c.fenced(s, f)
	case *events.AcquireRequested:
		c.asked(s, f.Assignment)
	case *events.ReleaseRequested:
		d := c.directory(f.Directory)
		d.pending[f.Operation] = f.Assignment
		d.asked[tenure{f.Incarnation, f.Epoch}] = true
	case *events.AcquireAcknowledged:
		if d := c.directory(f.Directory); d.answered(f.Assignment) && f.Code != "" && f.Code != "fenced" {
			delete(d.holds, seatOf(f.Assignment))
		}
	case *events.ReleaseAcknowledged:
		if d := c.directory(f.Directory); d.answered(f.Assignment) && (f.Code == "" && f.Quiesced || f.Code == "not_found") {
			delete(d.holds, seatOf(f.Assignment))
		}
	case *events.PositionsFenced:
		c.directory(f.Directory).fence = s
	case *events.PositionCommitted:
		if f.Incarnation != "" {
			d := c.directory(f.Directory)
			d.said = append(d.said, word{s, f})
		}
	}
}

func (c *holderCheck) added(s Stored, who seat) {
	if c.gone[who] {
		c.fault(s, "%v comes back", who)
	}
	if before := c.alive[who.vague()]; before != "" && before != who.incarnation {
		c.gone[seat{who.node, who.service, before}] = true
	}
	c.alive[who.vague()] = who.incarnation
}

func (c *holderCheck) fenced(s Stored, f *events.DirectoryFenced) {
	d := c.directory(f.Directory)
	if !c.gone[seat{f.Node, f.Service, f.Incarnation}] {
		c.fault(s, "%+v is fenced while it lives", f)
	}
	fence, ok := d.fence.Fact.(*events.PositionsFenced)
	// The stream keeps the newest fence only: one of a later epoch may have taken the place.
	if d.fenced = max(d.fenced, f.Epoch); ok && fence.Epoch < f.Epoch {
		c.fault(s, "epoch %d is called fenced, and %d is", f.Epoch, fence.Epoch)
	}
	for who, a := range d.holds {
		if a.Epoch <= f.Epoch {
			delete(d.holds, who)
		}
	}
}

func (c *holderCheck) asked(s Stored, a events.Assignment) {
	d := c.directory(a.Directory)
	for who, other := range d.holds {
		if who != seatOf(a) {
			c.fault(s, "%+v is asked while this one may hold it: %+v", a, other)
		}
	}
	if d.fenced > 0 && a.Epoch <= d.fenced {
		c.fault(s, "epoch %d is asked for, and %d is fenced", a.Epoch, d.fenced)
	}
	d.holds[seatOf(a)], d.pending[a.Operation] = a, a
	d.asked[tenure{a.Incarnation, a.Epoch}] = true
}

// answered reports whether an acknowledgement is the first for its request.
func (d *heldDirectory) answered(a events.Assignment) bool {
	asked, ok := d.pending[a.Operation]
	if !ok || asked != a {
		return false
	}
	delete(d.pending, a.Operation)
	return true
}

func (c *holderCheck) checkPositions() {
	for _, id := range slices.Sorted(maps.Keys(c.directories)) {
		d := c.directories[id]
		fence, _ := d.fence.Fact.(*events.PositionsFenced)
		if d.fenced > 0 && (fence == nil || fence.Epoch < d.fenced) {
			c.faults = append(c.faults, fmt.Sprintf("directory %s: epoch %d is called fenced, and POSITIONS has %+v", id, d.fenced, fence))
		}
		for _, s := range d.said {
			f := s.position
			if !d.asked[tenure{f.Incarnation, f.Epoch}] {
				c.fault(s.Stored, "%s says it in epoch %d as %s, which was asked for nothing", f.Client, f.Epoch, f.Incarnation)
			}
			if fence != nil && s.Sequence > d.fence.Sequence && f.Epoch <= fence.Epoch {
				c.fault(s.Stored, "%s says it in epoch %d as %s, behind the fence of epoch %d", f.Client, f.Epoch, f.Incarnation, fence.Epoch)
			}
		}
	}
}

// Fence publishes what policy does before a directory is given on: whoever holds it in an
// epoch up to this one is gone.
func (s *Site) Fence(t testing.TB, id events.DirectoryID, epoch uint64) {
	t.Helper()
	fence := &events.PositionsFenced{Directory: id, Epoch: epoch, At: events.InstantOf(time.Now())}
	if _, err := s.Bus.Publish(t.Context(), events.StreamPositions, fence); err != nil {
		t.Fatalf("fence: %v", err)
	}
}
