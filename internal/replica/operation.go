package replica

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"tidemark/events"
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
func (r *Replica) Unfinished() []Operation {
	r.applying.Lock()
	defer r.applying.Unlock()
	return slices.Clone(r.unfinished)
}

// NextSnapshotID returns a number above that of every snapshot there ever was, as of the
// messages applied.
func (r *Replica) NextSnapshotID() events.SnapshotID {
	r.applying.Lock()
	defer r.applying.Unlock()
	return r.nextSnapshot
}

// startOperation notes an operation that has begun. Nothing else changes.
func (r *Replica) startOperation(e events.OperationStarted, at stamp) error {
	if e.Intent == nil {
		return corrupt("entry %v starts no operation", at.position)
	}
	o := Operation{at.position, e.Intent}
	r.unfinished = append(r.unfinished, o)
	r.newOperations = append(r.newOperations, o)
	r.altered = true
	return nil
}

// finishOperation makes the intent of an operation true, or forgets it when it failed. One
// whose start is not known changes nothing.
func (r *Replica) finishOperation(e events.OperationFinished, at stamp, before []events.Position) error {
	i, found := slices.BinarySearchFunc(r.unfinished, e.Started, func(o Operation, at events.Position) int {
		return cmp.Compare(o.Started, at)
	})
	if !found {
		return nil
	}
	if e.Failure == "" {
		if err := r.applyFact(r.unfinished[i].Intent, at, before); err != nil {
			return err
		}
	}
	r.unfinished = slices.Delete(r.unfinished, i, i+1)
	r.goneOperations = append(r.goneOperations, e.Started)
	r.altered = true
	return nil
}
