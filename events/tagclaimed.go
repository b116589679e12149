package events

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// TagReason says why a tag was claimed.
type TagReason string

// The reasons for a tag.
const (
	TagOpened   TagReason = "opened"   // the owner opened the directory
	TagPromoted TagReason = "promoted" // an orderly promotion
	TagForced   TagReason = "forced"   // a promotion without the former owner's consent
	TagDemoted  TagReason = "demoted"  // nobody owns the directory from here on
	TagFull     TagReason = "full"     // the former tag's entries ran out
	TagReset    TagReason = "reset"    // what came before was dropped from the journal
	// TagLost: the journal had lost its end, which was given up. The images may hold parts of
	// it, in versions that others have too: nobody else's copy continues this one's.
	TagLost TagReason = "lost"
)

const tagFields = 14

// TagClaimed says that a writer took a directory over: it is entry 0 of its tag. It
// names its predecessor exactly, so tags form a chain that two sites can compare.
type TagClaimed struct {
	Tag         Tag
	Reason      TagReason
	Site        string // site UUID of the owner
	Node        string
	Incarnation string
	// Predecessor is the last entry of the history that the tag continues, with the
	// chain up to it. A history's first tag has a zero predecessor.
	Predecessor Mark
	// PredecessorSite is the site UUID of the tag before, empty for the first.
	PredecessorSite string
	Mark            Mark // the claim itself: Tag.0, the chain with it
}

// Encode returns the message and the claim's own mark.
func (t TagClaimed) Encode(now Instant) ([]byte, Mark) {
	mark := t.Predecessor
	mark.Position, mark.Time = At(t.Tag, 0), now
	b := appendArray(nil, tagFields)
	b = append(b, FormatVersion)
	b = appendString(b, tagKind)
	b = appendUint32(b, uint32(t.Tag))
	b = appendString(b, string(t.Reason))
	b = appendString(b, t.Site)
	b = appendString(b, t.Node)
	b = appendString(b, t.Incarnation)
	b = appendUint64(b, uint64(t.Predecessor.Position))
	b = appendUint64(b, uint64(t.Predecessor.Chain))
	b = appendUint64(b, t.Predecessor.Entries)
	b = appendUint64(b, t.Predecessor.Bytes)
	b = appendString(b, t.PredecessorSite)
	b = appendUint64(b, uint64(now))
	mark.Chain = Chain(xxhash.Sum64(b))
	return appendUint64(b, uint64(mark.Chain)), mark
}

// DecodeTagClaimed reads a claim. Errors are those of [DecodeBatch].
func DecodeTagClaimed(msg []byte) (*TagClaimed, error) {
	r, chain, err := openJournalMessage(msg, tagKind, tagFields)
	if err != nil {
		return nil, err
	}
	t := &TagClaimed{
		Tag:         Tag(r.limited(1<<32-1, "the tag")),
		Reason:      TagReason(r.string()),
		Site:        r.string(),
		Node:        r.string(),
		Incarnation: r.string(),
		Predecessor: Mark{
			Position: Position(r.uint()),
			Chain:    Chain(r.uint()),
			Entries:  r.uint(),
			Bytes:    r.uint(),
		},
		PredecessorSite: r.string(),
	}
	t.Mark = t.Predecessor
	t.Mark.Position, t.Mark.Time, t.Mark.Chain = At(t.Tag, 0), Instant(r.uint()), chain
	if err := r.finish(); err != nil {
		return nil, err
	}
	return t, nil
}

// JournalMessage is what a journal stream holds: a [*Batch] or a [*TagClaimed].
type JournalMessage interface {
	// Follows reports whether the message continues a history that ends at m: the next
	// entry of the same tag, or a later tag that names m as its predecessor, under the
	// same chain.
	Follows(m Mark) bool
	// Continues returns the position and chain of the history that the message follows;
	// zero for the claim that begins one.
	Continues() (Position, Chain)
	// Ends returns the mark of the history after the message.
	Ends() Mark
}

// Continues implements [JournalMessage].
func (b *Batch) Continues() (Position, Chain) { return At(b.Tag, b.First-1), b.Before }

// Continues implements [JournalMessage].
func (t *TagClaimed) Continues() (Position, Chain) {
	return t.Predecessor.Position, t.Predecessor.Chain
}

// Ends returns the mark of the last entry.
func (b *Batch) Ends() Mark { return b.End }

// Ends returns the mark of the claim.
func (t *TagClaimed) Ends() Mark { return t.Mark }

// Follows implements [JournalMessage].
func (b *Batch) Follows(m Mark) bool {
	return b.Tag == m.Position.Tag() && b.First == m.Position.Entry()+1 && b.Before == m.Chain &&
		b.End.Entries == m.Entries+uint64(len(b.Entries))
}

// Follows implements [JournalMessage].
func (t *TagClaimed) Follows(m Mark) bool {
	return t.Predecessor.Same(m) && t.Predecessor.Entries == m.Entries && t.Predecessor.Bytes == m.Bytes &&
		t.Tag > m.Position.Tag()
}

// DecodeJournal reads any journal message. Errors are those of [DecodeBatch]; a sound
// message of a kind that this program does not know is [ErrFormat].
func DecodeJournal(msg []byte) (JournalMessage, error) {
	r := &reader{b: msg}
	n := r.array()
	r.uint()
	switch kind := r.string(); {
	case r.err != nil:
		return nil, corrupt("it is not a journal message")
	case kind == tagKind:
		return journalMessage(DecodeTagClaimed(msg))
	case kind == batchKind:
		return journalMessage(DecodeBatch(msg))
	default:
		if _, _, err := openJournalMessage(msg, kind, n); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("journal message of kind %.40q: %w", kind, ErrFormat)
	}
}

// journalMessage keeps a nil pointer from becoming a message.
func journalMessage[M JournalMessage](m M, err error) (JournalMessage, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}
