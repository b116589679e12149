package notifier_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/services/notifier"
)

const turnDirectory = events.DirectoryID("00000000000000aa")

// told returns what the turns of a stream's facts are, in short.
func told(facts ...events.Fact) []string {
	turns := notifier.NewTurns()
	var all []string
	for _, f := range facts {
		for _, turn := range turns.Next(f) {
			line := string(turn.What) + " " + turn.Pool + turn.Path + " " + turn.Node
			if turn.Detail != "" {
				line += ": " + turn.Detail
			}
			all = append(all, line)
		}
	}
	return all
}

func assignment(operation string, role events.Role) events.Assignment {
	return events.Assignment{Operation: operation, Directory: turnDirectory, Node: "n1", Incarnation: "i1", Role: role, Epoch: 3}
}

// rejected is how an acknowledgement that changed nothing is told of, in short.
func rejected(node, operation string, epoch int, why string) string {
	directory := "vms/db"
	if node == "" {
		directory = "" // nobody knows
	}
	return fmt.Sprintf("acknowledgement_rejected "+directory+" %s: operation %q of node %q, directory %q, epoch %d: %s", node, operation, "n1", turnDirectory, epoch, why)
}

// Who floods the log with acknowledgements is told of, and seldom.
func TestRejectionsAreBounded(t *testing.T) {
	var flood []events.Fact
	for i := range 5000 {
		flood = append(flood, &events.AcquireAcknowledged{Assignment: assignment(fmt.Sprint(i), events.Master)})
	}
	if got := told(flood...); len(got) != 24 || !strings.Contains(got[23], "4096 in a row") {
		t.Errorf("%d are told of: %q", len(got), got[len(got)-1])
	}
	acquire := &events.AcquireRequested{Assignment: assignment("a", events.Master), Pool: "vms", Path: "/db"}
	good := &events.AcquireAcknowledged{Assignment: acquire.Assignment}
	if got := told(append(flood, acquire, good, good)...); len(got) != 26 || !strings.Contains(got[25], "answered already") {
		t.Errorf("afterwards: %q", got[len(got)-1])
	}
}

// TestTurns: journal 109: a resync that is asked for is told. journal 110: a promotion is,
// and it is no resync and no closing.
func TestTurns(t *testing.T) {
	acquire := &events.AcquireRequested{Assignment: assignment("a", events.Master), Pool: "vms", Path: "/db"}
	promote := &events.AcquireRequested{Assignment: assignment("p", events.Master), Pool: "vms", Path: "/db", Promote: events.TagPromoted}
	force := &events.AcquireRequested{Assignment: assignment("f", events.Master), Pool: "vms", Path: "/db", Promote: events.TagForced}
	release := &events.ReleaseRequested{Assignment: assignment("r", events.Slave), Pool: "vms", Path: "/db", Remove: true}
	demote := &events.ReleaseRequested{Assignment: assignment("d", events.Master), Pool: "vms", Path: "/db", Demote: true}
	acquired := func(a events.Assignment, code string) events.Fact {
		return &events.AcquireAcknowledged{Assignment: a, Code: code}
	}
	released := func(a events.Assignment, code string) events.Fact {
		return &events.ReleaseAcknowledged{Assignment: a, Code: code, Quiesced: code == ""}
	}
	foreign := acquire.Assignment
	foreign.Epoch++
	for name, c := range map[string]struct {
		facts []events.Fact
		want  []string
	}{
		"created and removed": {
			[]events.Fact{
				&events.DirectoryCreated{Directory: turnDirectory, Pool: "vms", Path: "/db"},
				&events.DirectoryMapped{Directory: turnDirectory, Pool: "vms", Node: "n1", Role: events.Master},
				&events.DirectoryRemoved{Directory: turnDirectory, Pool: "vms"},
				&events.DirectoryForgotten{Directory: turnDirectory, Pool: "vms"},
			},
			[]string{"created vms/db ", "removed vms/db "},
		},
		"journal 109": {
			[]events.Fact{
				&events.DirectoryTracked{Directory: turnDirectory, Pool: "vms", Path: "/db"},
				&events.ResyncRequested{Directory: turnDirectory, Pool: "vms", Number: 1},
				&events.ResyncRequested{Directory: turnDirectory, Pool: "vms", Number: 2, KeepRefused: true},
			},
			[]string{
				"tracked vms/db ", "resync_requested vms/db : what only the copy here has is given up",
				"resync_requested vms/db : what only the copy here has is kept as images of their own",
			},
		},
		"acquired": {[]events.Fact{acquire, acquired(acquire.Assignment, "")}, []string{"assigned vms/db n1: as master"}},
		"refused":  {[]events.Fact{promote, acquired(promote.Assignment, "split_brain")}, nil},
		"answered twice": {
			[]events.Fact{acquire, acquired(acquire.Assignment, ""), acquired(acquire.Assignment, "")},
			[]string{"assigned vms/db n1: as master", rejected("", "a", 3, "it was answered already")},
		},
		"directories 134: foreign answer": {
			[]events.Fact{acquire, acquired(foreign, ""), released(acquire.Assignment, "")},
			[]string{rejected("n1", "a", 4, "it does not repeat what was asked"), rejected("n1", "a", 3, "it does not repeat what was asked")},
		},
		"never asked": {
			[]events.Fact{acquired(acquire.Assignment, ""), released(release.Assignment, "")},
			[]string{rejected("", "a", 3, "nobody asked for it"), rejected("", "r", 3, "nobody asked for it")},
		},
		"journal 110":       {[]events.Fact{promote, acquired(promote.Assignment, "")}, []string{"assigned vms/db n1: as master", "promoted vms/db n1: orderly"}},
		"promoted by force": {[]events.Fact{force, acquired(force.Assignment, "")}, []string{"assigned vms/db n1: as master", "promoted vms/db n1: forced"}},
		"demoted":           {[]events.Fact{demote, released(demote.Assignment, "")}, []string{"released vms/db n1: as master", "demoted vms/db n1"}},
		"demotion refused":  {[]events.Fact{demote, released(demote.Assignment, "fenced")}, nil},
		"released":          {[]events.Fact{release, released(release.Assignment, "")}, []string{"released vms/db n1: as slave, copy deleted"}},
		"instances": {
			[]events.Fact{
				&events.InstanceAdded{Node: "n1", Service: "journal", Incarnation: "i1"},
				&events.InstanceRemoved{Node: "n1", Service: "journal", Incarnation: "i1", Reason: "silent"},
				&events.InstanceRemoved{Node: "n1", Service: "journal", Incarnation: "i2", Reason: "left"},
			},
			[]string{"instance_joined  n1: incarnation i1", "instance_lost  n1: incarnation i1", "instance_left  n1: incarnation i2"},
		},
		"unreadable": {[]events.Fact{nil}, nil},
	} {
		if got := told(c.facts...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
