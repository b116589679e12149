package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// lagWorthTelling is how many seconds a replica may be behind, beyond the delay that was
// asked for, before it needs attention; where a target RPO is set it is that.
const lagWorthTelling = 10

// attention is something that an operator should look at.
type attention struct {
	What    string `json:"what"`
	Message string `json:"message"`
	Do      string `json:"do,omitempty"` // what helps, where that is known
}

// worry is an attention with its rank: the lowest is shown first.
type worry struct {
	rank int
	attention
}

// worries lists what needs attention: parted histories and errors, then what is not
// followed or held, then what is on its way, then lag and full journals.
func (a siteStatus) worries() []attention {
	var found []worry
	if len(a.Nodes) == 0 {
		found = append(found, worry{0, attention{"site", "no node is alive: does the notifier service run?", "start a node: tidemark serve"}})
	}
	if a.FromLog {
		found = append(found, worry{0, attention{"policy", "nobody answers: this is what the log says, and nothing can be changed", "start the policy service of a node"}})
	}
	for _, d := range a.Directories {
		found = append(found, d.worries()...)
	}
	slices.SortStableFunc(found, func(x, y worry) int { return cmp.Compare(x.rank, y.rank) })
	worries := make([]attention, 0, len(found))
	for _, f := range found {
		worries = append(worries, f.attention)
	}
	return worries
}

func (d directoryLine) worries() []worry {
	var found []worry
	if w, wrong := d.wrong(); wrong {
		found = append(found, w)
	}
	if d.Lag.Seconds > d.lagAllowed() {
		found = append(found, d.worry(4, "tidemark mirror status "+d.Directory,
			"lagging: %s behind its primary (%s)", seconds(d.Lag.Seconds), behind(d.Lag)))
	}
	if d.BytesLimit > 0 && d.Bytes > d.BytesLimit/10*9 {
		found = append(found, d.worry(4, "see whom it waits for: tidemark journal status "+d.Directory,
			"its journal is almost full: %s of %s", formatSize(d.Bytes), formatSize(d.BytesLimit)))
	}
	return found
}

// wrong is what is wrong with a directory's state, if anything is.
func (d directoryLine) wrong() (worry, bool) {
	switch {
	case d.State == mirrorSplit:
		return d.worry(0, d.resolution(), "split_brain: %s", d.Error), true
	case d.State == mirrorError:
		return d.worry(0, "", "error: %s", d.Error), true
	case d.State == "disconnected":
		return d.worry(1, "tidemark mirror resync "+d.Directory, "disconnected: %s", d.Error), true
	case d.State == mirrorStalled && d.Primary != "":
		return d.worry(1, "look at site "+d.Primary+" and the link to it", "stalled: %s", d.Error), true
	case d.State == mirrorStalled && d.Ahead != nil: // a follower answers, which knows its neighbours only
		return d.worry(1, "look at each site up to the primary, and the links between them", "stalled: %s", d.Error), true
	case d.State == mirrorStalled:
		return d.worry(1, "start a node with its copy", "stalled: %s", cmp.Or(d.Error, "no node holds it")), true
	case d.State == "resync":
		return d.worry(2, "nothing: it goes on by itself", "resync: %s", copied(d.Progress)), true
	case d.Error != "":
		return d.worry(1, "", "%s: %s", d.State, d.Error), true
	case d.Mapping != mapped:
		return d.worry(3, "", "it is not where it should be yet: %s", d.Mapping), true
	}
	return worry{}, false
}

// resolution is what resolves a split brain.
func (d directoryLine) resolution() string {
	if d.Split != nil && len(d.Split.Resolve) > 0 {
		return strings.Join(d.Split.Resolve, ", or ")
	}
	return "at the site that gives its changes up: tidemark mirror resync " + d.Directory
}

func (d directoryLine) worry(rank int, do, format string, args ...any) worry {
	return worry{rank, attention{d.Directory, fmt.Sprintf(format, args...), do}}
}

// lagAllowed is in seconds. What is held back on purpose is no lag.
func (d directoryLine) lagAllowed() float64 {
	return d.Delay + cmp.Or(d.TargetRPO, lagWorthTelling)
}
