package journaltext

import (
	"encoding/json"

	"tidemark/events"
)

// Shown is an entry as `decode` and `events` show it.
type Shown struct {
	Position events.Position
	Entry    events.Entry
}

type part struct {
	Index uint32 `json:"index"`
	Count uint32 `json:"count"`
}

// MarshalJSON implements [json.Marshaler]. Of data it shows the length and how it begins.
func (s Shown) MarshalJSON() ([]byte, error) {
	o := headOf(s.Position, s.Entry)
	before := s.Entry.Before
	if before == nil {
		before = []events.Position{}
	}
	o.add("before", before)
	o.addEvent(s.Entry.Event, brief)
	return json.Marshal(o)
}

// headOf returns what stands before an event: where it is, and of what it is a part.
func headOf(p events.Position, e events.Entry) object {
	o := object{{"position", p}}
	if e.Version != 0 {
		o.add("version", e.Version)
	}
	if e.Part != (events.Part{}) {
		o.add("part", part(e.Part))
	}
	return o
}
