package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Position is where an entry stands in a directory's history: the tag (one period
// of one writer's ownership) in the high 32 bits, the entry within it, from 1, in the
// low 32 bits. It is also the version of every object that the entry changed. Zero is
// no position: nothing was ever written. Within one history a greater position is
// later; across diverged histories only equality together with a chain has meaning.
//
// The layout is that of Lustre's version {epoch, transno}.
type Position uint64

// MaxEntry is the last entry number that a tag can hold; a tag that reaches it is
// followed by another of the same owner.
const MaxEntry = 1<<32 - 1

// At returns the position of an entry in a tag.
func At(tag Tag, entry uint32) Position { return Position(uint64(tag)<<32 | uint64(entry)) }

// Tag returns the tag of the position.
func (p Position) Tag() Tag { return Tag(p >> 32) }

// Entry returns the entry's number within its tag; 0 is the tag's claim itself.
func (p Position) Entry() uint32 { return uint32(p) }

// String returns TAG.ENTRY.
func (p Position) String() string {
	return strconv.FormatUint(uint64(p.Tag()), 10) + "." + strconv.FormatUint(uint64(p.Entry()), 10)
}

type jsonPosition struct {
	Tag   Tag    `json:"tag"`
	Entry uint32 `json:"entry"`
}

// MarshalJSON writes {"tag": T, "entry": E}.
func (p Position) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonPosition{p.Tag(), p.Entry()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Position) UnmarshalJSON(b []byte) error {
	var j jsonPosition
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*p = At(j.Tag, j.Entry)
	return nil
}

// Tag numbers one period of one writer's ownership of a directory. The low
// [siteBits] bits are the number of the site that gave the tag out, the others count
// generations: two sites can both believe that they are next (a split brain) and still
// never give the same tag to different histories.
type Tag uint32

const (
	siteBits = 12
	// MaxSiteNumber is the largest number a site can have. Sites that share a pool
	// have different numbers; peers settle them when a token is imported.
	MaxSiteNumber = 1<<siteBits - 1
	maxGeneration = 1<<(32-siteBits) - 1
)

// ErrTagsExhausted is returned when a directory has used up all generations of tags
// (1,048,575 openings).
var ErrTagsExhausted = errors.New("the directory has no tags left")

// Next returns the tag that a site claims after t: the next generation, with the
// site's own number. site is at most [MaxSiteNumber].
func (t Tag) Next(site uint16) (Tag, error) {
	generation := uint32(t)>>siteBits + 1
	if generation > maxGeneration {
		return 0, ErrTagsExhausted
	}
	return Tag(generation<<siteBits | uint32(site)&MaxSiteNumber), nil
}

// Site returns the number of the site that gave out the tag.
func (t Tag) Site() uint16 { return uint16(t & MaxSiteNumber) }

// Mark is a position together with what proves and measures the history up to it.
type Mark struct {
	Position Position `json:"position"`
	// Chain is the running hash of the history up to and including Position.
	Chain Chain `json:"chain"`
	// Entries and Bytes count all entries, and their encoded size, since the history
	// began: the difference of two marks of one history is the lag between them.
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	// Time is when the entry's writer published it.
	Time Instant `json:"time"`
}

// Same reports whether two marks name the same point of the same history.
func (m Mark) Same(o Mark) bool { return m.Position == o.Position && m.Chain == o.Chain }

// Chain is a running hash over a directory's whole history.
type Chain uint64

// MarshalJSON writes the chain as 16 hexadecimal digits: a JSON number could not
// hold it exactly.
func (c Chain) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Chain) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		return fmt.Errorf("chain %q is not hexadecimal", s)
	}
	*c = Chain(v)
	return nil
}

// String returns 16 hexadecimal digits.
func (c Chain) String() string { return fmt.Sprintf("%016x", uint64(c)) }
