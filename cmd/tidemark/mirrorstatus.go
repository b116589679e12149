package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
)

// mirrorState is one directory as `mirror status` shows it. Its keys are part of the
// interface.
type mirrorState struct {
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
	Nodes    []mirrorNode  `json:"nodes"`
	// Split is set in a split brain: how the histories parted, and what resolves it.
	Split *api.Split `json:"split,omitempty"`
	// Ahead is, of a replica, what a forced promotion would lose as far as it is known.
	Ahead *api.Ahead `json:"ahead,omitempty"`
}

// mirrorNode is one copy that the directory's holder knows of.
type mirrorNode struct {
	Node     string             `json:"node"` // SITE.NODE
	Role     events.Role        `json:"role"`
	State    events.ClientState `json:"state"`
	Position events.Position    `json:"position"`
	Entries  uint64             `json:"entries_behind"`
	Bytes    uint64             `json:"bytes_behind"`
	Seen     events.Instant     `json:"seen"`
}

// The mirror states that are told apart here.
const (
	mirrorStopped = "stopped"
	mirrorError   = "error"
	mirrorStalled = "stalled"
)

func newMirrorStatus(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "status [POOL[/DIR]]", Short: "Show who is primary, and how far replicas are behind", Args: takes(0, 1),
		Long: `Status shows each directory as its holder at this site sees it, in one of these states:

  syncing       the first copy is on its way
  replaying     a replica that follows its primary
  resync        a replica that gives up what its primary has not
  stopped       follows nobody now; of a primary always: its description says how it is
  stalled       nothing is heard of the primary, or nobody here holds the directory
  disconnected  its primary does not keep what it needs any more: resync it
  split_brain   both sites went on by themselves: resync the one that gives up
  error         its error says what is wrong; it is tried again by itself

Behind are the entries and bytes that were logged at the primary when it was last heard,
and the seconds since this copy was level with it, which go on while it is not heard.
A first sync or a resync shows what is copied, how fast, and how long the rest takes.`,
		RunE: c.request(func(ctx context.Context, s *client, args []string) error {
			states, err := s.mirrorStates(ctx, args)
			if err != nil {
				return err
			}
			if s.fromLog {
				c.say("the policy service does not answer: which directories there are was read from the log")
			}
			return c.show(list(states), func(t *table) {
				t.row("DIRECTORY", "ROLE", "PRIMARY", "STATE", "POSITION", "BEHIND", "SECONDS", "NODES", "ERROR")
				for _, m := range states {
					t.row(m.Directory, m.Role, m.Primary, m.State, m.Position, behind(m.Lag), seconds(m.Lag.Seconds), len(m.Nodes), m.Error)
				}
				for _, m := range states {
					if m.Progress != nil {
						t.gap()
						t.row(m.Directory + ": copied " + copied(m.Progress))
					}
					if m.Split != nil {
						splitRows(t, m.Directory, m.Split)
					}
				}
			})
		}),
	}
}

func (s *client) mirrorStates(ctx context.Context, args []string) ([]mirrorState, error) {
	dirs, err := s.directories(ctx, args)
	if err != nil {
		return nil, err
	}
	var states []mirrorState
	for _, a := range askHolders[api.Status](ctx, s, dirs, api.DirectoryStatus) {
		if a.err != nil {
			states = append(states, unheld(a.directory, a.err))
			continue
		}
		states = append(states, mirrored(a.directory, a.reply))
	}
	return states, nil
}

// unheld is a directory whose holder does not answer.
func unheld(d api.Directory, err error) mirrorState {
	state := mirrorStopped
	switch {
	case d.State == stalled || d.Node == "":
		state = mirrorStalled
	case !isNobody(err):
		state = mirrorError
	}
	return mirrorState{
		Directory: d.Name, Role: d.Role, State: state, Error: oneLine(err.Error()), Node: d.Node, Nodes: []mirrorNode{},
		Following: d.Following,
	}
}

// mirrored puts the map's and the holder's view together.
func mirrored(d api.Directory, s api.Status) mirrorState {
	m := mirrorState{
		Directory: d.Name, Role: s.Role, Primary: s.Primary, State: s.State, Error: s.Error,
		Tag: s.Tag, Owner: s.Owner, Position: s.Applied.Position, Received: s.Position.Position,
		Lag: s.Lag, Following: d.Following, Progress: s.Progress, Node: s.Node, Nodes: []mirrorNode{},
		Split: s.Split, Ahead: s.Ahead,
	}
	if s.Role == events.Master {
		m.Description = "local copy is primary: " + s.State
		m.State, m.Position = mirrorStopped, s.Position.Position
		if s.State == mirrorError {
			m.State = mirrorError
		}
		if s.Split != nil {
			m.State, m.Error = mirrorSplit, splitError(s.Split)
		}
	}
	if m.Error == "" {
		m.Error = d.Error
	}
	for _, c := range s.Clients {
		m.Nodes = append(m.Nodes, mirrorNode{c.ID, c.Role, c.State, c.Position, c.Entries, c.Bytes, c.Seen})
	}
	if s.Role == events.Slave && len(m.Nodes) == 0 { // a follower knows of its own copy only
		m.Nodes = append(m.Nodes, mirrorNode{
			Node: s.Node, Role: s.Role, State: events.ClientConnected, Position: s.Committed.Position,
			Entries: s.Lag.Entries, Bytes: s.Lag.Bytes,
		})
	}
	return m
}

func behind(l api.Lag) string {
	if l.Entries == 0 {
		return "0"
	}
	return strconv.FormatUint(l.Entries, 10) + " entries, " + formatSize(l.Bytes)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}
