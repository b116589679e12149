package events

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// Fact is something that happened outside a journal: a pool was created, a directory
// was mapped, an acquire was acknowledged. The set is closed; [everyFact] lists it.
type Fact interface {
	// Kind names the fact on the wire, in snake case. A kind never changes its meaning.
	Kind() string
	// Subject is where the fact is published.
	Subject() string
}

const factFields = 3

// everyFact returns a zero fact of each kind.
func everyFact() []Fact {
	return []Fact{
		&PoolCreated{}, &PoolRemoved{}, &MirrorEnabled{}, &MirrorDisabled{},
		&TokenCreated{}, &PeerAdded{}, &PeerRemoved{}, &SiteNumbered{},
		&DirectoryCreated{}, &DirectoryTracked{}, &DirectoryRemoved{}, &DirectoryMapped{},
		&PromotionRequested{}, &DemotionRequested{}, &RoleChangeRefused{}, &DirectoryForgotten{},
		&DirectoryConfigured{}, &ResyncRequested{}, &PromotionProposed{}, &PromotionWithdrawn{}, &RemovalRefused{},
		&DirectoryFenced{}, &PositionsFenced{},
		&InstanceAdded{}, &InstanceRemoved{}, &Heartbeat{},
		&AcquireRequested{}, &ReleaseRequested{}, &AcquireAcknowledged{}, &ReleaseAcknowledged{},
		&PlacementConfigured{}, &DirectoryMeasured{},
		&PositionCommitted{}, &HeadAdvanced{}, &HeadHeard{}, &LifecycleNoted{},
		&TurnDerived{}, &LetterDied{}, &LetterResent{}, &LetterDiscarded{},
	}
}

// newFact returns a pointer to a zero fact of a kind.
func newFact(kind string) (Fact, error) {
	for _, f := range everyFact() {
		if f.Kind() == kind {
			return f, nil
		}
	}
	return nil, fmt.Errorf("kind %.40q: %w", kind, ErrFormat)
}

// Marshal encodes a fact as [version, kind, map].
func Marshal(f Fact) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.SetCustomStructTag("json")
	enc.UseCompactInts(true)
	if err := enc.EncodeArrayLen(factFields); err != nil {
		return nil, err
	}
	if err := enc.EncodeMulti(FormatVersion, f.Kind(), f); err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Kind(), err)
	}
	return buf.Bytes(), nil
}

// Unmarshal decodes a fact and returns a pointer to its struct. It returns
// [ErrCorrupt] for bytes that are no fact and [ErrFormat] for a newer format or kind.
func Unmarshal(msg []byte) (Fact, error) {
	if err := guard(msg); err != nil {
		return nil, err
	}
	r := &reader{b: msg}
	n := r.array()
	version := r.uint()
	kind := r.string()
	switch {
	case r.err != nil:
		return nil, r.err
	case version != FormatVersion:
		return nil, fmt.Errorf("format %d: %w", version, ErrFormat)
	case n != factFields:
		return nil, corrupt("it has the wrong number of fields")
	}
	f, err := newFact(kind)
	if err != nil {
		return nil, err
	}
	if c := r.b[0]; c&0xf0 != mpFixMap && c != mpMap16 && c != mpMap32 {
		return nil, corrupt(kind + ": its fields are not a map")
	}
	dec := msgpack.NewDecoder(bytes.NewReader(r.b))
	dec.SetCustomStructTag("json")
	if err := dec.Decode(f); err != nil {
		return nil, corrupt(kind + ": " + err.Error())
	}
	return f, nil
}
