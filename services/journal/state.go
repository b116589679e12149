package journal

import (
	"fmt"
	"slices"
)

// State is what a directory is doing at its owner.
type State string

// The states of an owned directory.
const (
	Closed     State = "closed"
	Opening    State = "opening"    // replica and log are being opened
	Replaying  State = "replaying"  // the log is carried into the replica
	Flushing   State = "flushing"   // a tag is claimed, and what was left unfinished is settled
	Ready      State = "ready"      // requests are taken
	Importing  State = "importing"  // another journal's events are executed; other writers wait
	Stopping   State = "stopping"   // nothing more is taken; what was is made safe and applied
	Closing    State = "closing"    // the last checkpoint is taken, the replica is closed
	Restarting State = "restarting" // an error; it will be opened again soon
	Failed     State = "failed"     // an error each time; it will be opened again, more rarely
	Fenced     State = "fenced"     // another writer has taken the directory over
)

// transition is a pair of states, one of which may follow the other.
type transition struct{ from, to State }

// transitions lists what may follow what; doc.go draws it.
func transitions() []transition {
	return []transition{
		{Closed, Opening},
		{Opening, Replaying},
		{Opening, Restarting},
		{Opening, Failed},
		{Opening, Fenced},
		{Opening, Closing},
		{Replaying, Flushing},
		{Replaying, Restarting},
		{Replaying, Failed},
		{Replaying, Fenced},
		{Replaying, Closing},
		{Flushing, Ready},
		{Flushing, Restarting},
		{Flushing, Failed},
		{Flushing, Fenced},
		{Flushing, Closing},
		{Ready, Importing},
		{Ready, Stopping},
		{Ready, Restarting},
		{Ready, Failed},
		{Ready, Fenced},
		{Importing, Ready},
		{Importing, Stopping},
		{Importing, Restarting},
		{Importing, Failed},
		{Importing, Fenced},
		{Stopping, Closing},
		{Closing, Closed},
		{Restarting, Opening},
		{Restarting, Closing},
		{Failed, Opening},
		{Failed, Closing},
		{Fenced, Closing},
	}
}

// next returns to if a directory may go there from from. A transition that the table
// does not have is a defect of the program.
func next(from, to State) (State, error) {
	if slices.Contains(transitions(), transition{from, to}) {
		return to, nil
	}
	return from, fmt.Errorf("a directory cannot go from %s to %s", from, to)
}

// serves reports whether requests are taken.
func (s State) serves() bool { return s == Ready || s == Importing }

// broken reports whether the last life has ended with an error.
func (s State) broken() bool { return s == Restarting || s == Failed || s == Fenced }

// failuresBefore is how many lives in a row must have failed before a directory is called
// failed rather than restarting.
const failuresBefore = 5

// afterFailure says what a directory is after so many lives in a row have failed.
func afterFailure(failures int) State {
	if failures >= failuresBefore {
		return Failed
	}
	return Restarting
}
