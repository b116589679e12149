// Package site says who we are: the site, whose identity is a fact of its own NATS, and
// the node, which is this process's place in it.
package site

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
)

// Site is the identity of a site.
type Site struct {
	UUID string
	Name string
	// Number goes into the tags that the site gives out, so that two sites never give
	// out the same one. It changes when a peer turns out to have the same number.
	Number uint16
}

// Node is one machine of a site, in one run of its process.
type Node struct {
	Site Site
	Name string
	// Incarnation is new at each start.
	Incarnation string
	// Data is the folder that holds the node's replicas.
	Data string
	// DataID tells that folder from every other; see [DataID].
	DataID string
	// URL is where other sites reach this site's NATS.
	URL string
	// Auth: that NATS lets only users in.
	Auth bool
}

// ReplicaDir returns the folder of the node's copy of a directory.
func (n Node) ReplicaDir(id events.DirectoryID) string {
	return filepath.Join(n.Data, "replicas", string(id))
}

const claimTries = 16

// Identify returns the site's identity, and founds the site if its NATS knows none yet,
// under a name or, if that is empty, one that is made up. A site that is called otherwise
// is refused: its name is in subjects and with its peers, and whoever gives another has
// most likely reached the wrong NATS.
func Identify(ctx context.Context, b *bus.Bus, name string) (Site, error) {
	if name != "" {
		if err := events.CheckName(name); err != nil {
			return Site{}, fault.New(fault.Usage, "site: %w", err)
		}
	}
	for range claimTries {
		// The end of the stream is read before the identity in it: who founds the site in
		// between is noticed when the fact is published.
		state, err := b.State(ctx, events.StreamPools)
		if err != nil {
			return Site{}, err
		}
		known, err := Current(ctx, b)
		switch {
		case err == nil && (name == "" || name == known.Name):
			return known, nil
		case err == nil:
			return Site{}, fault.New(fault.Usage, "this site is called %q: leave --site out, or give that name", known.Name)
		case !errors.Is(err, bus.ErrNotFound):
			return Site{}, err
		}
		founded, err := found(name)
		if err != nil {
			return Site{}, err
		}
		err = publishAfter(ctx, b, state.Last, founded)
		if !errors.Is(err, bus.ErrOvertaken) {
			return founded, err
		}
	}
	return Site{}, fault.New(fault.Busy, "identify site: %w", bus.ErrOvertaken)
}

func found(name string) (Site, error) {
	number, err := RandomNumber(nil)
	if err != nil {
		return Site{}, err
	}
	id, err := NewID()
	if err != nil {
		return Site{}, err
	}
	return Site{UUID: id, Name: cmp.Or(name, "site-"+id[:6]), Number: number}, nil
}

// Current returns the site's identity as its NATS has it; [bus.ErrNotFound] if none. A
// message that is no identity is passed over, as in every fold: who may publish one must
// not be able to keep the site from starting.
func Current(ctx context.Context, b *bus.Bus) (Site, error) {
	m, err := b.Last(ctx, events.StreamPools, (&events.SiteNumbered{}).Subject())
	if err != nil {
		return Site{}, err
	}
	who, cause := identity(m.Data)
	if cause == nil {
		return who, nil
	}
	state, err := b.State(ctx, events.StreamPools)
	if err != nil {
		return Site{}, err
	}
	known := false
	err = b.ReadTo(ctx, events.StreamPools, state.First, state.Last, func(m bus.Message) error {
		if newer, err := identity(m.Data); err == nil {
			who, known = newer, true
		}
		return nil
	})
	switch {
	case err != nil:
		return Site{}, fmt.Errorf("identity of the site: %w", err)
	case !known:
		return Site{}, fmt.Errorf("identity of the site: message %d of stream %s: %w", m.Sequence, events.StreamPools, cause)
	}
	return who, nil
}

// identity decodes a message that says who the site is.
func identity(msg []byte) (Site, error) {
	fact, err := events.Unmarshal(msg)
	if err != nil {
		return Site{}, err
	}
	f, ok := fact.(*events.SiteNumbered)
	if !ok {
		return Site{}, fmt.Errorf("a %s says nothing of the site: %w", fact.Kind(), events.ErrCorrupt)
	}
	return Site{f.Site, f.Name, f.Number}, nil
}

func publishAfter(ctx context.Context, b *bus.Bus, last uint64, s Site) error {
	_, err := b.PublishAfter(ctx, events.StreamPools, last, &events.SiteNumbered{
		Site: s.UUID, Name: s.Name, Number: s.Number, At: events.InstantOf(time.Now()),
	})
	return err
}

// RandomNumber draws a site number that is not among those taken.
func RandomNumber(taken []uint16) (uint16, error) {
	used := map[uint16]bool{}
	for _, n := range taken {
		used[n] = true
	}
	if len(used) >= events.MaxSiteNumber {
		return 0, fault.New(fault.NoSpace, "all %d site numbers are taken", events.MaxSiteNumber)
	}
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(events.MaxSiteNumber))
		if err != nil {
			return 0, fmt.Errorf("draw a site number: %w", err)
		}
		if number := uint16(n.Uint64()) + 1; !used[number] {
			return number, nil
		}
	}
}

// NewID returns 16 random hexadecimal digits: the id of a directory, an incarnation, an
// operation.
func NewID() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
