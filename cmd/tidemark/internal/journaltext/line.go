package journaltext

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"tidemark/events"
)

// LineBytesMax bounds a line of an export: an entry of full size in base64, or a
// snapshot of as many images as there can be, with their names.
const LineBytesMax = 4 << 20

// ErrLine is returned for a line that is not one of an export.
var ErrLine = errors.New("not a line of an export")

// Line is an entry as an export holds it.
type Line struct {
	Position events.Position
	Time     events.Instant // of the message that held it, zero if not known
	Entry    events.Entry   // without the versions before it
	Named
}

// object returns the line's document.
func (l Line) object() object {
	o := headOf(l.Position, l.Entry)
	if l.Time != 0 {
		o.add("time", l.Time)
	}
	if l.Image != "" {
		o.add("image_name", l.Image)
	}
	if l.Snapshot != "" {
		o.add("snapshot_name", l.Snapshot)
	}
	if len(l.Images) > 0 {
		o.add("image_names", l.Images)
	}
	o.addEvent(l.Entry.Event, whole)
	return o
}

// UnmarshalJSON reads the document of a line, and nothing else.
func (l *Line) UnmarshalJSON(text []byte) error {
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	*l = Line{}
	var p part
	err := errors.Join(
		f.take("position", &l.Position), f.takeIf("time", &l.Time), f.takeIf("version", &l.Entry.Version), f.takeIf("part", &p),
		f.takeIf("image_name", &l.Image), f.takeIf("snapshot_name", &l.Snapshot), f.takeIf("image_names", &l.Images))
	if err != nil {
		return err
	}
	l.Entry.Part = events.Part(p)
	if l.Entry.Event, err = f.takeEvent(kinds()); err != nil {
		return err
	}
	if err := f.nothingLeft(); err != nil {
		return err
	}
	return l.check()
}

// check demands what the binary form does, and the bounds of data.
func (l *Line) check() error {
	if p := l.Entry.Part; p != (events.Part{}) && (p.Count < 2 || p.Count > events.PartsMax || p.Index >= p.Count) {
		return fmt.Errorf("%w: part %d of %d", ErrEvent, p.Index, p.Count)
	}
	if _, offset, length, ok := events.Range(l.Entry.Event); ok && (length == 0 || offset+length < offset) {
		return fmt.Errorf("%w: a range of %d bytes from %d", ErrEvent, length, offset)
	}
	if _, err := events.DecodeEntry(events.EncodeEntry(l.Entry)); err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	switch e := l.Entry.Event.(type) {
	case events.Written:
		return within("data", len(e.Data), events.PayloadMax)
	case events.PatternWritten:
		return within("pattern", len(e.Pattern), events.PayloadMax)
	case events.CompareWritten:
		return within("data", len(e.Data), events.ComparedMax)
	}
	return nil
}

func within(what string, n, most int) error {
	if n < 1 || n > most {
		return fmt.Errorf("%w: %q has %d bytes, of 1 to %d", ErrEvent, what, n, most)
	}
	return nil
}

// Append appends the line to b as a file holds it.
func (l Line) Append(b []byte) ([]byte, error) {
	text, err := l.object().MarshalJSON()
	if err != nil {
		return b, fmt.Errorf("entry %s as JSON: %w", l.Position, err)
	}
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(append(b, ' '), text...)
	return append(b, '\n'), nil
}

// ParseLine reads a line without its newline.
func ParseLine(text []byte) (Line, error) {
	digits, rest, found := bytes.Cut(text, []byte(" "))
	n, err := strconv.ParseUint(string(digits[:min(len(digits), 20)]), 10, 63)
	switch {
	case !found || err != nil:
		return Line{}, fmt.Errorf("%w: it does not begin with a length and a space", ErrLine)
	case n != uint64(len(rest)):
		return Line{}, fmt.Errorf("%w: it holds %d bytes where it says %d", ErrLine, len(rest), n)
	}
	var l Line
	if err := l.UnmarshalJSON(rest); err != nil {
		return Line{}, fmt.Errorf("%w: %w", ErrLine, err)
	}
	return l, nil
}

// Reader reads the lines of a file.
type Reader struct {
	r    *bufio.Reader
	line int
}

// NewReader returns a reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Line returns the number of the line that was read last, from 1.
func (r *Reader) Line() int { return r.line }

// Next returns the next line that holds an entry. An error that is [ErrLine] leaves the
// reader behind the bad line; [io.EOF] is the end.
func (r *Reader) Next() (Line, error) {
	for {
		text, err := r.text()
		switch {
		case err != nil:
			return Line{}, err
		case len(bytes.TrimSpace(text)) == 0, text[0] == '#':
			continue
		}
		return ParseLine(text)
	}
}

// text returns a line without its newline. One that is too long is passed over.
func (r *Reader) text() ([]byte, error) {
	r.line++
	var text []byte
	long := false
	for {
		piece, err := r.r.ReadSlice('\n')
		if long = long || len(text)+len(piece) > LineBytesMax; long {
			text = text[:0]
		} else {
			text = append(text, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(text) > 0 || long):
		case err != nil:
			return nil, err
		}
		if long {
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrLine, LineBytesMax)
		}
		return bytes.TrimSuffix(text, []byte("\n")), nil
	}
}
