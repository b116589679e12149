package events

// The objects of an IO event are those of the image's data that its range touches, by
// ascending index. Flushed touches none.

// Written says that Data was written at Offset.
type Written struct {
	Image  ImageID
	Offset uint64 // bytes
	Data   []byte // 1 byte to [PayloadMax]
}

// Discarded says that a range was given back: it reads as zeroes and takes no space.
// NBD leaves the content after a TRIM open; here it is defined, so that replicas agree.
type Discarded struct {
	Image  ImageID
	Offset uint64 // bytes
	Length uint64 // bytes
}

// Zeroed says that a range reads as zeroes and keeps its space allocated.
type Zeroed struct {
	Image  ImageID
	Offset uint64 // bytes
	Length uint64 // bytes
}

// PatternWritten says that a range was filled with copies of Pattern (SCSI WRITE SAME).
type PatternWritten struct {
	Image   ImageID
	Offset  uint64 // bytes
	Length  uint64 // bytes, a multiple of the pattern's
	Pattern []byte // 1 byte to [PayloadMax]
}

// CompareWritten says that Offset held Compare, byte for byte, and that Data was written
// there (SCSI COMPARE AND WRITE). A comparison that failed changed nothing and is not
// in the journal.
type CompareWritten struct {
	Image   ImageID
	Offset  uint64 // bytes
	Compare []byte // as long as Data
	Data    []byte // 1 byte to [ComparedMax]
}

// Flushed says that a client asked for everything before it to be safe. It changes
// nothing; it tells which positions a client's own recovery counts on. Flushes without
// a change between them are one.
type Flushed struct{}

func (Written) kind() eventKind        { return kindWritten }
func (Discarded) kind() eventKind      { return kindDiscarded }
func (Zeroed) kind() eventKind         { return kindZeroed }
func (PatternWritten) kind() eventKind { return kindPatternWritten }
func (CompareWritten) kind() eventKind { return kindCompareWritten }
func (Flushed) kind() eventKind        { return kindFlushed }

func (e Written) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendUint(b, e.Offset)
	return appendBin(b, e.Data)
}

func (e Discarded) append(b []byte) []byte { return appendRange(b, e.Image, e.Offset, e.Length) }
func (e Zeroed) append(b []byte) []byte    { return appendRange(b, e.Image, e.Offset, e.Length) }

func (e PatternWritten) append(b []byte) []byte {
	return appendBin(appendRange(b, e.Image, e.Offset, e.Length), e.Pattern)
}

func (e CompareWritten) append(b []byte) []byte {
	b = appendUint(b, uint64(e.Image))
	b = appendUint(b, e.Offset)
	return appendBin(appendBin(b, e.Compare), e.Data)
}

func (Flushed) append(b []byte) []byte { return b }

func appendRange(b []byte, image ImageID, offset, length uint64) []byte {
	b = appendUint(b, uint64(image))
	b = appendUint(b, offset)
	return appendUint(b, length)
}

// ioEvent reads an IO event; nil for another kind.
func (r *reader) ioEvent(k eventKind) Event {
	switch k {
	case kindWritten:
		return Written{r.image(), r.uint(), r.bin()}
	case kindDiscarded:
		return Discarded{r.image(), r.uint(), r.uint()}
	case kindZeroed:
		return Zeroed{r.image(), r.uint(), r.uint()}
	case kindPatternWritten:
		e := PatternWritten{r.image(), r.uint(), r.uint(), r.bin()}
		if r.err == nil && (len(e.Pattern) == 0 || e.Length%uint64(len(e.Pattern)) != 0) {
			r.fail("a pattern does not fit its range")
		}
		return e
	case kindCompareWritten:
		e := CompareWritten{r.image(), r.uint(), r.bin(), r.bin()}
		if r.err == nil && len(e.Compare) != len(e.Data) {
			r.fail("a comparison differs in length from what is written")
		}
		return e
	case kindFlushed:
		return Flushed{}
	default:
		return nil
	}
}

// image reads an image's number.
func (r *reader) image() ImageID { return ImageID(r.limited(1<<32-1, "an image's number")) }

// Range returns the image and the bytes that an event changes; ok is false for events
// that do not change a range of data.
func Range(e Event) (image ImageID, offset, length uint64, ok bool) {
	switch e := e.(type) {
	case Written:
		return e.Image, e.Offset, uint64(len(e.Data)), true
	case Discarded:
		return e.Image, e.Offset, e.Length, true
	case Zeroed:
		return e.Image, e.Offset, e.Length, true
	case PatternWritten:
		return e.Image, e.Offset, e.Length, true
	case CompareWritten:
		return e.Image, e.Offset, uint64(len(e.Data)), true
	}
	return 0, 0, 0, false
}
