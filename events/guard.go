package events

import "encoding/binary"

// depthMax is how deep a message may nest. Facts need four levels.
const depthMax = 8

// guard walks one msgpack value and refuses whatever could make a reflecting decoder
// allocate or recurse beyond the size of the message: lengths that exceed what is
// left, deep nesting, extension types, and bytes after the value.
func guard(b []byte) error {
	rest, err := skipValue(b, 0)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return corrupt("bytes follow the message")
	}
	return nil
}

type corruptError string

func (e corruptError) Error() string        { return ErrCorrupt.Error() + ": " + string(e) }
func (e corruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(what string) error { return corruptError(what) }

// shape says what follows a type byte: how many bytes hold a length, whether that
// length (plus fixed) counts bytes or values.
type shape struct {
	lengthBytes int
	fixed       uint64
	values      uint64 // values per unit of length: 0 for byte strings, 1 array, 2 map
	refused     bool
}

func shapeOf(c byte) shape {
	switch {
	case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		return shape{}
	case c <= 0x8f:
		return shape{fixed: uint64(c & 0x0f), values: 2}
	case c <= 0x9f:
		return shape{fixed: uint64(c & 0x0f), values: 1}
	case c <= 0xbf:
		return shape{fixed: uint64(c & 0x1f)}
	case c >= 0xc4 && c <= 0xc6:
		return shape{lengthBytes: 1 << (c - 0xc4)}
	case c == 0xca, c == 0xcb:
		return shape{fixed: 4 << (c - 0xca)}
	case c >= 0xcc && c <= 0xcf:
		return shape{fixed: 1 << (c - 0xcc)}
	case c >= 0xd0 && c <= 0xd3:
		return shape{fixed: 1 << (c - 0xd0)}
	case c >= 0xd9 && c <= 0xdb:
		return shape{lengthBytes: 1 << (c - 0xd9)}
	case c == 0xdc, c == 0xdd:
		return shape{lengthBytes: 2 << (c - 0xdc), values: 1}
	case c == 0xde, c == 0xdf:
		return shape{lengthBytes: 2 << (c - 0xde), values: 2}
	}
	return shape{refused: true}
}

// skipValue returns what follows the first value of b.
func skipValue(b []byte, depth int) ([]byte, error) {
	if len(b) == 0 {
		return nil, corrupt("it ends too early")
	}
	if depth > depthMax {
		return nil, corrupt("it nests too deeply")
	}
	s := shapeOf(b[0])
	b = b[1:]
	if s.refused {
		return nil, corrupt("a type that no message uses")
	}
	if len(b) < s.lengthBytes {
		return nil, corrupt("it ends too early")
	}
	n := s.fixed
	var wide [8]byte
	copy(wide[8-s.lengthBytes:], b[:s.lengthBytes])
	n += binary.BigEndian.Uint64(wide[:])
	b = b[s.lengthBytes:]
	if n > uint64(len(b)) {
		return nil, corrupt("a length exceeds the message")
	}
	if s.values == 0 {
		return b[n:], nil
	}
	var err error
	for range n * s.values {
		if b, err = skipValue(b, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}
