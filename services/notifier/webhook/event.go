package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tidemark/events"
)

// ContentType is a CloudEvent's in structured mode.
const ContentType = "application/cloudevents+json; charset=utf-8"

// Event is a CloudEvent 1.0 about a turn.
type Event struct {
	SpecVersion string `json:"specversion"` // "1.0"
	// ID is the note's stream and sequence, LIFECYCLE-123: unique at the site.
	ID string `json:"id"`
	// Source is /tidemark/sites/UUID.
	Source string `json:"source"`
	// Type is tidemark.directory.promoted and the like, or tidemark.instance.lost.
	Type string `json:"type"`
	// Subject is POOL/DIR, or NODE/SERVICE of an instance.
	Subject string `json:"subject"`
	Time    string `json:"time"` // RFC 3339
	// Site is the site's name: an extension attribute.
	Site            string                `json:"tidemarksite"`
	DataContentType string                `json:"datacontenttype"`
	Data            events.LifecycleNoted `json:"data"`
}

// EventID names the event of a note in LIFECYCLE. It has no full stop, so that what is
// signed can be read in one way only.
func EventID(sequence uint64) string { return fmt.Sprintf("%s-%d", events.StreamLifecycle, sequence) }

// Encode returns the body of the event of a note.
func Encode(uuid, site string, sequence uint64, turn events.LifecycleNoted) ([]byte, error) {
	e := Event{
		SpecVersion: "1.0", ID: EventID(sequence), Source: "/tidemark/sites/" + uuid, Site: site,
		Type: "tidemark.directory." + string(turn.What), Subject: turn.Pool + turn.Path,
		Time: turn.At.Time().Format(time.RFC3339Nano), DataContentType: "application/json", Data: turn,
	}
	if what, ok := strings.CutPrefix(string(turn.What), "instance_"); ok {
		e.Type, e.Subject = "tidemark.instance."+what, turn.Node+"/"+turn.With
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.ID, err)
	}
	return body, nil
}
