package replica

import (
	"encoding/json"
	"fmt"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Operation is an operation that was started and has not finished.
type Operation struct {
	Started events.Position // the position of its start, which is its number
	Intent  events.Event    // what its finish makes true
}

type jsonOperation struct {
	Started events.Position `json:"started"`
	Entry   []byte          `json:"entry"` // its start, as a journal holds it
}

// MarshalJSON writes the operation with its start in the journal's form.
func (o Operation) MarshalJSON() ([]byte, error) {
	entry := events.EncodeEntry(events.Entry{Event: events.OperationStarted{Intent: o.Intent}})
	return json.Marshal(jsonOperation{o.Started, entry})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Operation) UnmarshalJSON(b []byte) error {
	var j jsonOperation
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	e, err := events.DecodeEntry(j.Entry)
	if err != nil {
		return fmt.Errorf("operation %v: %w", j.Started, err)
	}
	started, ok := e.Event.(events.OperationStarted)
	if !ok {
		return fmt.Errorf("operation %v is no start: %w", j.Started, events.ErrCorrupt)
	}
	o.Started, o.Intent = j.Started, started.Intent
	return nil
}

// Unfinished returns the operations that were started and have neither finished nor
// failed, as of the messages applied, oldest first.
func (r *Replica) Unfinished() []Operation { return nil }

// NextSnapshotID returns a number above that of every snapshot there ever was, as of the
// messages applied.
func (r *Replica) NextSnapshotID() events.SnapshotID { return 1 }

// Check reports whether what an operation intends could be made true now, as of the
// messages applied, and returns the versions that the entry names which makes it true. It
// looks at metadata only and changes nothing. The owner decides by it, recovery does, and
// so does Apply. An error has one of the codes exists, not_found, busy, usage, read_only
// and no_space.
func (r *Replica) Check(intent events.Event) (before []events.Position, err error) {
	return nil, fault.New(fault.Internal, "check %T: not built yet", intent)
}

// ApplyRun applies consecutive messages as one step: no checkpoint falls between them. It
// is what a change of several entries needs that spans messages; the parts of one that is
// not complete within ms are void. seq is the sequence of the last message. Errors are
// those of [Replica.Apply], which is ApplyRun of one message.
func (r *Replica) ApplyRun(ms []events.JournalMessage, seq uint64) error {
	for _, m := range ms {
		if err := r.Apply(m, seq); err != nil {
			return err
		}
	}
	return nil
}
