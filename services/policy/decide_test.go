package policy

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"tidemark/events"
	"tidemark/internal/fault"
)

// The table in the package comment is the table in the code.
func TestTableIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(unassociated|associating|associated|shuffling|disassociating|fencing) +(.+?)  `).FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, m[1]+": "+strings.TrimSpace(m[2]))
	}
	var want []string
	for _, r := range table() {
		want = append(want, string(r.status)+": "+r.name)
	}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("doc.go has\n%s\nthe code\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}

// directories 93, 95, 96.
func TestMapAndUnmap(t *testing.T) {
	s := newScript(t)
	s.step("unknown")
	s = held(t, created())
	s.fold(removed())
	release := s.step("remove from holder").(*events.ReleaseRequested)
	if !release.Remove || release.Demote || release.Node != "a" || release.Epoch != 1 {
		t.Errorf("release %+v", release)
	}
	s.step("removal asked")
	s.acknowledge(release, "")
	s.step("forget")
	s.step("forgotten")
	if len(s.state.Names) != 0 || s.state.Spreads[events.ServiceJournal].share("a").Directories != 0 {
		t.Errorf("left over: %+v", s.state)
	}
}

// directories 100, 101, 103, 107. Who is gone is fenced first, and whoever comes next has a
// higher epoch, the same node anew too.
func TestNodesComeAndGo(t *testing.T) {
	s := held(t, created())
	s.fold(up("a", "2")...)
	s.step("fence")
	if f := s.step("map again").(*events.DirectoryMapped); f.Node != "a" || f.Epoch != 2 {
		t.Errorf("mapped %+v", f)
	}
	again := s.step("acquire").(*events.AcquireRequested)
	if again.Incarnation != "2" || again.Epoch != 2 {
		t.Errorf("acquire %+v", again)
	}
	s.fold(down("a", "2")...)
	s.acknowledge(again, fault.Fenced) // by the notifier: nobody knows whether it was done
	s.step("fence")
	s.step("no node")
	s.fold(up("b", "1")...)
	if f := s.step("map").(*events.DirectoryMapped); f.Node != "b" || f.Epoch != 3 {
		t.Errorf("mapped %+v", f)
	}
	acquire := s.step("acquire")
	// An older notifier takes the silent one back, in the same incarnation.
	s.fold(up("a", "2")...)
	s.step("acquire asked")
	s.acknowledge(acquire, "")
	release := s.step("superseded holder").(*events.ReleaseRequested)
	if release.Node != "a" || release.Incarnation != "2" || release.Epoch != 3 || release.Demote || release.Remove {
		t.Errorf("release %+v", release)
	}
	s.acknowledge(release, "")
	s.step("held")
}

// Two processes by one node name: the older comes back after the newer one had the
// directory. What it said before is not believed: it lets go and acquires again.
func TestNodeComesBackAfterItsTwin(t *testing.T) {
	for _, answer := range []fault.Code{"", fault.Fenced} {
		s := held(t, created())
		first := s.state.Instances[Key{"a", events.ServiceJournal}].Incarnation
		s.fold(up("a", "twin")...)
		s.step("fence")
		s.step("map again")
		acquire := s.step("acquire").(*events.AcquireRequested)
		s.acknowledge(acquire, answer) // fenced: it died, and may have acquired it
		s.fold(down("a", "twin")...)
		s.fold(up("a", first)...)
		s.step("fence")
		release := s.step("superseded holder").(*events.ReleaseRequested)
		if release.Incarnation != first || release.Demote || release.Remove {
			t.Errorf("release %+v", release)
		}
		s.acknowledge(release, "")
		s.step("map again")
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
	}
}

// A late or foreign acknowledgement changes nothing.
func TestForeignAcknowledgements(t *testing.T) {
	s := newScript(t)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	acquire := s.step("acquire").(*events.AcquireRequested)
	for _, change := range []func(*events.Assignment){
		func(a *events.Assignment) { a.Operation = "other" },
		func(a *events.Assignment) { a.Node = "b" },
		func(a *events.Assignment) { a.Incarnation = "0" },
		func(a *events.Assignment) { a.Epoch = 0 },
		func(a *events.Assignment) { a.Role = events.Slave },
		func(a *events.Assignment) { a.Directory = "e" },
	} {
		a := acquire.Assignment
		change(&a)
		s.fold(&events.AcquireAcknowledged{Assignment: a})
		s.step("acquire asked")
	}
	s.fold(&events.ReleaseAcknowledged{Assignment: acquire.Assignment, Quiesced: true})
	s.step("acquire asked")
	s.acknowledge(acquire, "")
	s.acknowledge(acquire, fault.Internal) // twice
	s.step("held")
}

// Not quiesced is not released.
func TestNotQuiesced(t *testing.T) {
	s := held(t, tracked())
	s.fold(removed())
	release := s.step("remove from holder").(*events.ReleaseRequested)
	s.fold(&events.ReleaseAcknowledged{Assignment: release.Assignment, At: s.now})
	s.now += events.Instant(retryMax)
	s.step("remove from holder")
}

// directories 116: the fewest directories, of equals the first by name.
func TestPlacement(t *testing.T) {
	s := newScript(t)
	s.fold(up("b", "1")...)
	s.fold(up("a", "1")...)
	nodes := ""
	for _, id := range []events.DirectoryID{"1", "2", "3", "4", "5"} {
		s.fold(&events.DirectoryCreated{Directory: id, Pool: "p", Path: "/" + string(id)})
		f := Decide(s.state, id, s.now, "op").Fact
		s.fold(f)
		nodes += f.(*events.DirectoryMapped).Node
	}
	if nodes != "ababa" {
		t.Errorf("mapped to %s", nodes)
	}
}
