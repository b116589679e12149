package overview

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
)

// Line is one directory as `status` shows it. Its keys are part of the interface.
type Line struct {
	Mirror
	Mapping    string `json:"mapping"`
	Durability string `json:"durability"`
	Bytes      uint64 `json:"journal_bytes"`
	BytesLimit uint64 `json:"journal_limit_bytes"`
}

// errNobody is why nothing is known of a directory that no report names.
var errNobody = errors.New("nobody holds it: is the journal or replayer service of a node running?")

// LineOf puts together what the map and the directory's holder say; status is nil where no
// holder says anything.
func LineOf(d api.Directory, status *api.Status) Line {
	if status == nil {
		why := errNobody
		if d.Error != "" {
			why = errors.New(d.Error)
		}
		return Line{Mirror: Unheld(d, why, true), Mapping: d.State}
	}
	return Line{
		Mirror: Mirrored(d, *status), Mapping: d.State,
		Durability: status.Durability, Bytes: status.Bytes, BytesLimit: status.BytesLimit,
	}
}

// LineOfStanding is the line of a directory that is where it should be, as its holder alone
// knows it.
func LineOfStanding(s api.Standing) Line {
	return LineOf(api.Directory{
		ID: s.ID, Name: s.Name, Role: s.Role, Node: s.Node, State: Mapped, Following: s.Following,
	}, &s.Status)
}

// ShownState is what a person is shown: "ready" rather than "stopped" for a primary that works.
func (d Line) ShownState() string {
	if d.State == SplitBrain {
		return d.State
	}
	if _, state, found := strings.Cut(d.Description, ": "); found {
		return state
	}
	return d.State
}

// Pool is the pool that the directory lies in.
func (d Line) Pool() string {
	pool, _, _ := strings.Cut(d.Directory, "/")
	return pool
}

// Or stands between the things of which one is to be done.
const Or = ", or "

// Attention is something that an operator should look at.
type Attention struct {
	What    string `json:"what"`
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // what helps, where that is known
}

// Rank says how bad something is: the least is shown first.
type Rank int

// The ranks.
const (
	Grave       Rank = iota // parted histories, errors, nobody there
	Broken                  // not followed, not held
	Busy                    // goes on by itself, and is not safe meanwhile
	Moving                  // on its way
	Lagging                 // lag, and journals that fill
	Undelivered             // what listeners were not told
)

// Worry is an attention with its rank.
type Worry struct {
	Rank Rank
	Attention
}

// lagWorthTelling is how many seconds a replica may be behind, beyond the delay that was
// asked for, before it needs attention; where a target RPO is set it is that.
const lagWorthTelling = 10

// Worries lists what of a directory needs attention; a directory that is well has none.
func (d Line) Worries() []Worry {
	var found []Worry
	if w, wrong := d.wrong(); wrong {
		found = append(found, w)
	}
	if d.Lag.Seconds > d.LagAllowed() {
		found = append(found, d.worry(Lagging, "tidemark mirror status "+d.Directory,
			"lagging: %s behind its primary (%s)", Seconds(d.Lag.Seconds), Behind(d.Lag)))
	}
	if d.BytesLimit > 0 && d.Bytes > d.BytesLimit/10*9 {
		found = append(found, d.worry(Lagging, "see whom it waits for: tidemark journal status "+d.Directory,
			"its journal is almost full: %s of %s", Size(d.Bytes), Size(d.BytesLimit)))
	}
	return found
}

// wrong is what is wrong with a directory's state, if anything is.
func (d Line) wrong() (Worry, bool) {
	switch {
	case d.State == SplitBrain:
		return d.worry(Grave, d.resolution(), "split_brain: %s", d.Error), true
	case d.State == Errored:
		return d.worry(Grave, cmp.Or(remedy(d.Error), d.retried()), "error: %s", d.Error), true
	case d.State == Disconnected:
		return d.worry(Broken, "tidemark mirror resync "+d.Directory, "disconnected: %s", d.Error), true
	case d.State == Stalled && d.Primary != "":
		return d.worry(Broken, "look at site "+d.Primary+" and the link to it", "stalled: %s", d.Error), true
	case d.State == Stalled && d.Ahead != nil: // a follower answers, which knows its neighbours only
		return d.worry(Broken, "look at each site up to the primary, and the links between them", "stalled: %s", d.Error), true
	case d.State == Stalled:
		return d.worry(Broken, cmp.Or(remedy(d.Error), "start a node with its copy"), "stalled: %s", cmp.Or(d.Error, "no node holds it")), true
	case d.State == Resync && d.Error != "":
		return d.worry(Broken, "look at the link to its primary"+Or+"promote it at the site that has what is wanted", "resync: %s", d.Error), true
	case d.State == Resync:
		return d.worry(Busy, "nothing: it goes on by itself", "resync: %s", Copied(d.Progress)), true
	case d.Error != "":
		return d.worry(Broken, "", "%s: %s", d.State, d.Error), true
	case d.Mapping != Mapped:
		return d.worry(Moving, "", "it is not where it should be yet: %s", d.Mapping), true
	}
	return Worry{}, false
}

// remedy returns the command that an error names in backquotes; empty if it names none.
func remedy(message string) string {
	_, rest, _ := strings.Cut(message, "`")
	command, _, closed := strings.Cut(rest, "`")
	if !closed || !strings.HasPrefix(command, "tidemark ") {
		return ""
	}
	return command
}

// retried says what becomes of an error by itself, and where to look if it stays.
func (d Line) retried() string {
	switch d.Role {
	case events.Slave:
		return "it is tried again by itself; if it stays, look at what it names and the link"
	case events.Master:
		return "it is opened again by itself; if it stays, look at the disk and the log of node " + d.Node
	}
	return ""
}

// resolution is what resolves a split brain.
func (d Line) resolution() string {
	if d.Split != nil && len(d.Split.Resolve) > 0 {
		return strings.Join(d.Split.Resolve, Or)
	}
	return "at the site that gives its changes up: tidemark mirror resync " + d.Directory
}

func (d Line) worry(rank Rank, do, format string, args ...any) Worry {
	return Worry{rank, Attention{d.Directory, fmt.Sprintf(format, args...), do}}
}

// LagAllowed is in seconds. What is held back on purpose is no lag.
func (d Line) LagAllowed() float64 {
	return d.Delay + cmp.Or(d.TargetRPO, lagWorthTelling)
}

// SortWorries puts the worst first, and leaves the others in order.
func SortWorries(all []Worry) {
	slices.SortStableFunc(all, func(x, y Worry) int { return cmp.Compare(x.Rank, y.Rank) })
}

// sortLines sorts by name.
func sortLines(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.Directory, b.Directory) })
}
