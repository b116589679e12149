package journaltext

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"tidemark/events"
)

// ErrEvent is returned for a JSON object that is no event.
var ErrEvent = errors.New("not an event")

// firstBytes is how much of written data is shown to a person.
const firstBytes = 16

// kinds returns a zero event of each kind. An event's kind and fields as text are the
// names of its type and fields in snake case: both are part of the form of an export, and
// never change.
func kinds() []events.Event {
	return append(facts(), events.Written{}, events.Discarded{}, events.Zeroed{}, events.PatternWritten{}, events.CompareWritten{},
		events.Flushed{}, events.OperationStarted{}, events.OperationFinished{})
}

// facts returns a zero event of each kind that an operation can be about.
func facts() []events.Event {
	return []events.Event{
		events.ImageCreated{},
		events.ImageResized{},
		events.ImageRemoved{},
		events.ImageCloned{},
		events.ImageRenamed{},
		events.ImageLinked{},
		events.ImageUnlinked{},
		events.ImageFlattened{},
		events.FeatureChanged{},
		events.MetadataSet{},
		events.MetadataRemoved{},
		events.SnapshotsCreated{},
		events.SnapshotRemoved{},
		events.SnapshotRenamed{},
		events.SnapshotProtected{},
		events.SnapshotUnprotected{},
		events.SnapshotRolledBack{},
		events.SnapshotLimitChanged{},
	}
}

// Kind returns an event's kind as text shows it.
func Kind(e events.Event) string { return snake(reflect.TypeOf(e).Name()) }

// snake turns ImageCreated into image_created.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// detail says how much of an event's data is shown.
type detail bool

const (
	brief detail = false // the length and the first bytes, in hexadecimal digits
	whole detail = true  // all, in base64
)

// addEvent adds an event's kind and fields.
func (o *object) addEvent(e events.Event, how detail) {
	o.add("kind", Kind(e))
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		name := snake(v.Type().Field(i).Name)
		switch field := v.Field(i).Interface().(type) {
		case []byte:
			if name == "data" {
				o.add("length", len(field))
			}
			if how == whole {
				o.add(name, field)
			} else {
				o.add(name+"_first", hex.EncodeToString(field[:min(len(field), firstBytes)]))
			}
		case events.Event:
			var inner object
			inner.addEvent(field, how)
			o.add(name, inner)
		default:
			o.add(name, field)
		}
	}
}

// fields are the members of a JSON object that were not read yet.
type fields map[string]json.RawMessage

// take reads a member that must be there.
func (f fields) take(name string, into any) error {
	raw, ok := f[name]
	delete(f, name)
	switch {
	case !ok || bytes.Equal(raw, []byte("null")):
		return fmt.Errorf("%w: %q is missing", ErrEvent, name)
	default:
		if err := json.Unmarshal(raw, into); err != nil {
			return fmt.Errorf("%w: %q: %w", ErrEvent, name, err)
		}
	}
	return nil
}

// takeIf reads a member that may be missing.
func (f fields) takeIf(name string, into any) error {
	if _, ok := f[name]; !ok {
		return nil
	}
	return f.take(name, into)
}

// nothingLeft refuses members that nobody asked for: they would be lost.
func (f fields) nothingLeft() error {
	for name := range f {
		return fmt.Errorf("%w: %.40q is not known here", ErrEvent, name)
	}
	return nil
}

// takeEvent reads the kind, one of some, and the fields of an event.
func (f fields) takeEvent(some []events.Event) (events.Event, error) {
	var kind string
	if err := f.take("kind", &kind); err != nil {
		return nil, err
	}
	for _, zero := range some {
		if Kind(zero) == kind {
			return f.takeFields(reflect.New(reflect.TypeOf(zero)).Elem())
		}
	}
	return nil, fmt.Errorf("%w: kind %.40q cannot be here", ErrEvent, kind)
}

func (f fields) takeFields(v reflect.Value) (events.Event, error) {
	for i := range v.NumField() {
		name, field := snake(v.Type().Field(i).Name), v.Field(i)
		if field.Kind() == reflect.Interface {
			inner, err := f.takeIntent(name)
			if err != nil {
				return nil, err
			}
			field.Set(reflect.ValueOf(inner))
			continue
		}
		if err := f.take(name, field.Addr().Interface()); err != nil {
			return nil, err
		}
		if data, ok := field.Interface().([]byte); ok && name == "data" {
			length := len(data)
			if err := f.takeIf("length", &length); err != nil {
				return nil, err
			}
			if length != len(data) {
				return nil, fmt.Errorf("%w: %d bytes of data where %d are said", ErrEvent, len(data), length)
			}
		}
	}
	return v.Interface().(events.Event), nil //nolint:errcheck // v was made from one
}

// takeIntent reads the event of an operation.
func (f fields) takeIntent(name string) (events.Event, error) {
	var inner fields
	if err := f.take(name, &inner); err != nil {
		return nil, err
	}
	e, err := inner.takeEvent(facts())
	if err != nil {
		return nil, err
	}
	return e, inner.nothingLeft()
}
