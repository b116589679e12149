package events

import "github.com/cespare/xxhash/v2"

// ObjectPartBytesMax is the most data that one part of an object carries.
const ObjectPartBytesMax = 512 << 10

const (
	objectPartKind = "object"
	// objectPartFields counts the fields of a part; the first form ended before the
	// layer, the second, which is still used where it suffices, before Same.
	objectPartFields       = 15
	secondObjectPartFields = 14
	firstObjectPartFields  = 12
)

// ObjectPart is one message of the answer to a request for an object's content: the
// object's data is the concatenation of its parts. It is not stored.
type ObjectPart struct {
	Image   ImageID // in the first form, which knew no layers; else zero
	Layer   uint32  // zero in the first form
	Index   uint64
	Version Position
	Part    uint32 // from 0
	Parts   uint32 // at least 1
	// AtLeast and AtMost bound the entries in the content: all up to AtLeast, none
	// behind AtMost.
	AtLeast, AtMost Position
	// Blocks, in part 0, has a bit for each block of the object, set when it is
	// allocated: 64-bit words, little-endian, the lowest bit first.
	Blocks []byte
	// Hidden, in part 0 and in the form of Blocks, has a bit for each block that reads
	// as zeroes whatever lies in the layers below.
	Hidden []byte
	Data   []byte // of the allocated blocks that are not in Same, packed
	// Same, in part 0 and in the form of Blocks, has a bit for each block that was left
	// out because whoever asked has it.
	Same []byte
}

// Encode returns the message; it ends with a checksum like every journal message.
func (p ObjectPart) Encode() []byte {
	b := make([]byte, 0, len(p.Data)+len(p.Blocks)+len(p.Hidden)+len(p.Same)+128)
	fields := p.fields()
	b = appendArray(b, fields)
	b = append(b, FormatVersion)
	b = appendString(b, objectPartKind)
	b = appendUint(b, uint64(p.Image))
	b = appendUint(b, p.Index)
	b = appendUint(b, uint64(p.Version))
	b = appendUint(b, uint64(p.Part))
	b = appendUint(b, uint64(p.Parts))
	b = appendUint(b, uint64(p.AtLeast))
	b = appendUint(b, uint64(p.AtMost))
	b = appendBin(b, p.Blocks)
	b = appendBin(b, p.Data)
	if p.Layer != 0 {
		b = appendUint(b, uint64(p.Layer))
		b = appendBin(b, p.Hidden)
	}
	if fields == objectPartFields {
		b = appendBin(b, p.Same)
	}
	return appendUint64(b, xxhash.Sum64(b))
}

// fields returns how many fields the message has.
func (p *ObjectPart) fields() int {
	switch {
	case p.Layer == 0:
		return firstObjectPartFields
	case p.Same == nil:
		return secondObjectPartFields
	}
	return objectPartFields
}

// DecodeObjectPart reads what Encode writes; the result aliases msg. Errors are those
// of [DecodeBatch].
func DecodeObjectPart(msg []byte) (*ObjectPart, error) {
	fields := objectPartFields
	if n := (&reader{b: msg}).array(); n == firstObjectPartFields || n == secondObjectPartFields {
		fields = n
	}
	r, _, err := openJournalMessage(msg, objectPartKind, fields)
	if err != nil {
		return nil, err
	}
	p := &ObjectPart{
		Image:   ImageID(r.limited(1<<32-1, "an image's number")),
		Index:   r.uint(),
		Version: Position(r.uint()),
		Part:    uint32(r.limited(1<<16, "a part")),
		Parts:   uint32(r.limited(1<<16, "the parts")),
		AtLeast: Position(r.uint()),
		AtMost:  Position(r.uint()),
		Blocks:  r.bin(),
		Data:    r.bin(),
	}
	if fields != firstObjectPartFields {
		if p.Layer, p.Hidden = r.uint32("a layer's number"), r.bin(); r.err == nil && p.Layer == 0 {
			r.fail("a part is of no layer")
		}
	}
	if fields == objectPartFields {
		p.Same = r.bin()
	}
	if r.err == nil && p.Part >= p.Parts {
		r.fail("a part has no place among the parts")
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return p, nil
}
