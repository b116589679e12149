package replayer

import "fmt"

// State is what a followed directory is doing.
type State string

// The states of a followed directory. They are what mirror status shows.
const (
	Stopped      State = "stopped" // looking for a source, or told to stop
	Syncing      State = "syncing"
	Resyncing    State = "resync" // another copy is prepared, or waited for, that takes this one's place
	Replaying    State = "replaying"
	Errored      State = "error"
	SplitBrain   State = "split_brain"
	Disconnected State = "disconnected" // the source no longer has, or keeps, what this copy needs
)

// transitions lists where each state may lead.
var transitions = map[State][]State{
	Stopped:      {Syncing, Resyncing, Replaying, Errored, SplitBrain, Disconnected},
	Syncing:      {Replaying, Errored, Stopped, SplitBrain, Disconnected},
	Resyncing:    {Stopped, Errored},
	Replaying:    {Stopped, Errored, SplitBrain, Disconnected},
	Errored:      {Stopped},
	SplitBrain:   {Stopped},
	Disconnected: {Stopped},
}

// next returns to if a directory may go there from from.
func next(from, to State) (State, error) {
	for _, allowed := range transitions[from] {
		if allowed == to {
			return to, nil
		}
	}
	return from, fmt.Errorf("a followed directory cannot go from %s to %s", from, to)
}
