package journal

import "fmt"

// State is what a directory is doing at its owner.
type State string

// The states of an owned directory.
const (
	Opening   State = "opening"   // replica and log are being opened
	Replaying State = "replaying" // the log is carried into the replica; a tag is claimed
	Ready     State = "ready"     // requests are taken
	Closing   State = "closing"   // what was taken is made safe
	Closed    State = "closed"
	Failed    State = "failed" // an error; it will be opened again
	Fenced    State = "fenced" // another writer has taken the directory over
)

// transitions lists where each state may lead.
var transitions = map[State][]State{
	Closed:    {Opening},
	Opening:   {Replaying, Closing, Failed},
	Replaying: {Ready, Closing, Failed, Fenced},
	Ready:     {Closing, Failed, Fenced},
	Closing:   {Closed, Failed},
	Failed:    {Opening, Closing},
	Fenced:    {Closing, Opening},
}

// next returns to if a directory may go there from from. A transition that the table
// does not have is a defect of the program.
func next(from, to State) (State, error) {
	for _, allowed := range transitions[from] {
		if allowed == to {
			return to, nil
		}
	}
	return from, fmt.Errorf("a directory cannot go from %s to %s", from, to)
}
