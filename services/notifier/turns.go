package notifier

import (
	"strings"

	"tidemark/events"
)

// TurnSources lists the streams whose facts turns are derived from. Each stream is
// enough for its own turns, so it does not matter how they interleave.
func TurnSources() []string {
	return []string{events.StreamDirectories, events.StreamInstances, events.StreamNotifications}
}

// Turns makes notes of the facts of one stream, in the order of that stream: what
// listeners are told of what the site has decided and done. The same facts give the
// same notes, whoever makes them and whenever.
type Turns struct {
	names    map[events.DirectoryID]events.DirectoryName
	requests map[string]events.Fact // not acknowledged, by operation
	rejected rejections
}

// NewTurns returns the state before the first fact of a stream.
func NewTurns() *Turns {
	return &Turns{names: map[events.DirectoryID]events.DirectoryName{}, requests: map[string]events.Fact{}}
}

// Next adds one fact and returns the turns that it is, without their causes: none, one,
// or several in a fixed order.
func (t *Turns) Next(fact events.Fact) []events.LifecycleNoted {
	switch f := fact.(type) {
	case *events.InstanceAdded:
		return one(instanceTurn(events.InstanceJoined, f.Node, f.Service, "incarnation "+f.Incarnation, f.At))
	case *events.InstanceRemoved:
		what := events.InstanceLost
		if f.Reason == reasonLeft {
			what = events.InstanceLeft
		}
		return one(instanceTurn(what, f.Node, f.Service, "incarnation "+f.Incarnation, f.At))
	case *events.AcquireRequested:
		t.requests[f.Operation] = f
	case *events.ReleaseRequested:
		t.requests[f.Operation] = f
	case *events.AcquireAcknowledged:
		return t.acquired(f)
	case *events.ReleaseAcknowledged:
		return t.released(f)
	}
	return t.ofDirectory(fact)
}

func one(turn events.LifecycleNoted) []events.LifecycleNoted { return []events.LifecycleNoted{turn} }

func instanceTurn(what events.Lifecycle, node, service, detail string, at events.Instant) events.LifecycleNoted {
	return events.LifecycleNoted{Node: node, What: what, With: service, Detail: detail, At: at}
}

// ofDirectory is what the facts of DIRECTORIES mean for listeners.
func (t *Turns) ofDirectory(fact events.Fact) []events.LifecycleNoted {
	switch f := fact.(type) {
	case *events.DirectoryCreated:
		t.names[f.Directory] = events.DirectoryName{Pool: f.Pool, Path: f.Path}
		return one(t.about(f.Directory, f.Pool, events.Created, "", f.At))
	case *events.DirectoryTracked:
		t.names[f.Directory] = events.DirectoryName{Pool: f.Pool, Path: f.Path}
		return one(t.about(f.Directory, f.Pool, events.Tracked, "", f.At))
	case *events.ResyncRequested:
		detail := "what only the copy here has is given up"
		if f.KeepRefused {
			detail = "what only the copy here has is kept as images of their own"
		}
		return one(t.about(f.Directory, f.Pool, events.ResyncAsked, detail, f.At))
	case *events.DirectoryForgotten:
		turn := t.about(f.Directory, f.Pool, events.Removed, "", f.At)
		delete(t.names, f.Directory)
		return one(turn)
	}
	return nil
}

func (t *Turns) about(id events.DirectoryID, pool string, what events.Lifecycle, detail string, at events.Instant) events.LifecycleNoted {
	return events.LifecycleNoted{Directory: id, Pool: pool, Path: t.names[id].Path, What: what, Detail: detail, At: at}
}

// acquired is an acquire that a node answered: a refused one is no turn.
func (t *Turns) acquired(f *events.AcquireAcknowledged) []events.LifecycleNoted {
	r, asked := t.requests[f.Operation].(*events.AcquireRequested)
	if !asked || r.Assignment != f.Assignment {
		return t.reject(f.Assignment, f.At)
	}
	delete(t.requests, f.Operation)
	t.rejected.accepted(f.Operation)
	if f.Code != "" {
		return nil
	}
	turn := events.LifecycleNoted{
		Directory: f.Directory, Pool: r.Pool, Path: r.Path, Node: f.Node, What: events.Assigned, Mark: f.Mark,
		Detail: "as " + string(f.Role), At: f.At,
	}
	if r.Promote == "" {
		return one(turn)
	}
	promoted := turn
	promoted.What, promoted.Detail = events.Promoted, "orderly"
	if r.Promote == events.TagForced {
		promoted.Detail = "forced"
	}
	return []events.LifecycleNoted{turn, promoted}
}

// released is a release that a node answered.
func (t *Turns) released(f *events.ReleaseAcknowledged) []events.LifecycleNoted {
	r, asked := t.requests[f.Operation].(*events.ReleaseRequested)
	if !asked || r.Assignment != f.Assignment {
		return t.reject(f.Assignment, f.At)
	}
	delete(t.requests, f.Operation)
	t.rejected.accepted(f.Operation)
	if f.Code != "" || r.Discard {
		return nil
	}
	turn := events.LifecycleNoted{
		Directory: f.Directory, Pool: r.Pool, Path: r.Path, Node: f.Node, What: events.Released, Mark: f.Mark,
		Detail: strings.Join(released(f, r), ", "), At: f.At,
	}
	if !r.Demote {
		return one(turn)
	}
	demoted := turn
	demoted.What, demoted.Detail = events.Demoted, ""
	return []events.LifecycleNoted{turn, demoted}
}

// released says how a node has let go.
func released(f *events.ReleaseAcknowledged, r *events.ReleaseRequested) []string {
	detail := []string{"as " + string(f.Role)}
	if r.Remove {
		detail = append(detail, "copy deleted")
	}
	if !f.Quiesced {
		detail = append(detail, "not quiesced")
	}
	return detail
}
