package overview

import (
	"tidemark/events"
	"tidemark/internal/api"
)

// Mirror is one directory as `mirror status` shows it. Its keys are part of the interface.
type Mirror struct {
	Directory string      `json:"directory"`
	Role      events.Role `json:"role"`
	Primary   string      `json:"primary"`
	// State is syncing, replaying, stopped, error, split_brain, resync or stalled. The
	// copy of the primary itself follows nobody: stopped.
	State       string `json:"state"`
	Description string `json:"description,omitempty"`
	Error       string `json:"error,omitempty"`
	// Tag and Owner are of the ownership in force: who gave the tag out.
	Tag   events.Tag `json:"tag"`
	Owner string     `json:"owner"`
	// Position is how far this site's copy has come: what its images show.
	Position events.Position `json:"position"`
	// Received is how far its journal reaches.
	Received events.Position `json:"received"`
	api.Lag
	api.Following
	Progress *api.Progress `json:"progress,omitempty"`
	Node     string        `json:"node"`
	Nodes    []Copy        `json:"nodes"`
	// Failures and Recoveries are those of [api.Status].
	Failures   uint64 `json:"failure_count"`
	Recoveries uint64 `json:"recovery_count"`
	// Split is set in a split brain: how the histories parted, and what resolves it.
	Split *api.Split `json:"split,omitempty"`
	// Ahead is, of a replica, what a forced promotion would lose as far as it is known.
	Ahead *api.Ahead `json:"ahead,omitempty"`
}

// Copy is one copy that the directory's holder knows of.
type Copy struct {
	Node     string             `json:"node"` // SITE.NODE
	Role     events.Role        `json:"role"`
	State    events.ClientState `json:"state"`
	Position events.Position    `json:"position"`
	Entries  uint64             `json:"entries_behind"`
	Bytes    uint64             `json:"bytes_behind"`
	Seen     events.Instant     `json:"seen"`
}

// The states that are told apart here.
const (
	Stopped      = "stopped"
	Errored      = "error"
	Stalled      = "stalled" // of the map too
	SplitBrain   = "split_brain"
	Disconnected = "disconnected"
	Resync       = "resync"
	Mapped       = "mapped" // of the map: the directory is where it should be
)

// Unheld is a directory that its holder says nothing of, and why. nobody: no service took
// the question.
func Unheld(d api.Directory, why error, nobody bool) Mirror {
	state := Stopped
	switch {
	case d.State == Stalled || d.Node == "":
		state = Stalled
	case !nobody:
		state = Errored
	}
	return Mirror{
		Directory: d.Name, Role: d.Role, State: state, Error: oneLine(why.Error()), Node: d.Node, Nodes: []Copy{},
		Following: d.Following,
	}
}

// Mirrored puts the map's and the holder's view together.
func Mirrored(d api.Directory, s api.Status) Mirror {
	m := Mirror{
		Directory: d.Name, Role: s.Role, Primary: s.Primary, State: s.State, Error: s.Error,
		Tag: s.Tag, Owner: s.Owner, Position: s.Applied.Position, Received: s.Position.Position,
		Lag: s.Lag, Following: d.Following, Progress: s.Progress, Node: s.Node, Nodes: make([]Copy, 0, len(s.Clients)),
		Failures: s.Failures, Recoveries: s.Recoveries, Split: s.Split, Ahead: s.Ahead,
	}
	if s.Role == events.Master {
		m.Description = "local copy is primary: " + s.State
		m.State, m.Position = Stopped, s.Position.Position
		if s.State == Errored {
			m.State = Errored
		}
		if s.Split != nil {
			m.State, m.Error = SplitBrain, splitError(s.Split)
		}
	}
	if m.Error == "" {
		m.Error = d.Error
	}
	for _, c := range s.Clients {
		m.Nodes = append(m.Nodes, Copy{c.ID, c.Role, c.State, c.Position, c.Entries, c.Bytes, c.Seen})
	}
	if s.Role == events.Slave && len(m.Nodes) == 0 { // a follower knows of its own copy only
		m.Nodes = append(m.Nodes, Copy{
			Node: s.Node, Role: s.Role, State: events.ClientConnected, Position: s.Committed.Position,
			Entries: s.Lag.Entries, Bytes: s.Lag.Bytes,
		})
	}
	return m
}
