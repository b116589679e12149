package policy

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
)

// script folds facts and decisions about one directory, "d" in pool "p".
type script struct {
	t     *testing.T
	state *State
	seq   uint64
	ops   int
	now   events.Instant
}

func newScript(t *testing.T) *script {
	return &script{t: t, state: NewState(), now: 1}
}

func (s *script) fold(facts ...events.Fact) {
	for _, f := range facts {
		s.seq++
		s.state.Evolve(s.seq, f)
	}
}

// step decides, asserts the row of the table, and folds what came of it.
func (s *script) step(row string) events.Fact {
	s.t.Helper()
	s.ops++
	d := Decide(s.state, "d", s.now, "op-"+string(rune('a'+s.ops)))
	if d.Rule != row {
		s.t.Fatalf("the table says %q, want %q", d.Rule, row)
	}
	if d.Fact != nil {
		s.fold(d.Fact)
	}
	return d.Fact
}

func (s *script) acknowledge(f events.Fact, code fault.Code) {
	switch f := f.(type) {
	case *events.AcquireRequested:
		s.fold(&events.AcquireAcknowledged{Assignment: f.Assignment, Code: string(code), At: s.now})
	case *events.ReleaseRequested:
		s.fold(&events.ReleaseAcknowledged{Assignment: f.Assignment, Code: string(code), Quiesced: code == "", At: s.now})
	default:
		s.t.Fatalf("%T is no request", f)
	}
}

func up(node, incarnation string) []events.Fact {
	return []events.Fact{
		&events.InstanceAdded{Node: node, Service: events.ServiceJournal, Incarnation: incarnation},
		&events.InstanceAdded{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation},
	}
}

func down(node, incarnation string) []events.Fact {
	return []events.Fact{
		&events.InstanceRemoved{Node: node, Service: events.ServiceJournal, Incarnation: incarnation},
		&events.InstanceRemoved{Node: node, Service: events.ServiceReplayer, Incarnation: incarnation},
	}
}

func created() events.Fact {
	return &events.DirectoryCreated{Directory: "d", Pool: "p", Path: "/d"}
}

func tracked() events.Fact {
	return &events.DirectoryTracked{Directory: "d", Pool: "p", Path: "/d"}
}

func removed() events.Fact { return &events.DirectoryRemoved{Directory: "d", Pool: "p"} }
func demote() events.Fact  { return &events.DemotionRequested{Directory: "d", Pool: "p"} }

func promote(force bool) events.Fact {
	return &events.PromotionRequested{Directory: "d", Pool: "p", Force: force}
}

// held brings a directory to node a.
func held(t *testing.T, f events.Fact) *script {
	s := newScript(t)
	s.fold(up("a", "1")...)
	s.fold(f)
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	return s
}

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

// An acquire under way is answered before the removal begins; a dead node is not waited
// for. directories 106, 107, 108, 126.
func TestRemovals(t *testing.T) {
	s := newScript(t)
	s.fold(created())
	s.step("no node")
	s.fold(removed())
	s.step("forget")

	s = newScript(t)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	acquire := s.step("acquire")
	s.fold(removed())
	s.step("removal asked")
	s.acknowledge(acquire, fault.Internal)
	s.step("remove copy")

	s = held(t, created())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")

	s = held(t, created())
	s.fold(removed())
	release := s.step("remove from holder")
	s.fold(down("a", "1")...)
	s.acknowledge(release, fault.Fenced)
	s.step("fence")
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), fault.NotFound)
	s.step("forget")
}

// journal 297: what was removed while its node was down is deleted when that starts, and by
// a node that was only silent at once.
func TestForgottenCopiesAreRemoved(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.step("forgotten")
	s.fold(up("a", "1")...)
	if f := s.step("remove from holder").(*events.ReleaseRequested); !f.Remove || f.Incarnation != "1" {
		t.Errorf("release %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	s.step("forgotten")

	s = held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), fault.Internal)
	s.now += events.Instant(retryMax)
	s.acknowledge(s.step("remove copy"), "")
	s.step("forgotten")
	s.fold(up("a", "3")...)
	s.step("forgotten")

	// The name was given away meanwhile: the new directory is another one.
	s = held(t, tracked())
	s.fold(down("a", "1")...)
	s.fold(removed())
	s.step("fence")
	s.step("forget")
	s.fold(&events.DirectoryTracked{Directory: "e", Pool: "p", Path: "/d"})
	s.fold(up("a", "2")...)
	s.acknowledge(s.step("remove copy"), "")
	if s.state.Names[events.DirectoryName{Pool: "p", Path: "/d"}] != "e" {
		t.Error("the new directory lost its name")
	}
}

// A directory that turns out to hold images when it was let go of stays, and is acquired
// again; what it cannot answer, too.
func TestRemovalRefused(t *testing.T) {
	for _, code := range []fault.Code{fault.Busy, fault.Corrupt} {
		s := held(t, created())
		s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true})
		release := s.step("remove from holder").(*events.ReleaseRequested)
		if !release.Remove || !release.IfEmpty {
			t.Errorf("release %+v", release)
		}
		s.acknowledge(release, code)
		if f := s.step("removal refused").(*events.RemovalRefused); f.Code != string(code) || f.Operation != release.Operation {
			t.Errorf("refused %+v", f)
		}
		s.acknowledge(s.step("acquire"), "")
		s.step("held")
		s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true}) // once more
		s.acknowledge(s.step("remove from holder"), "")
		s.step("forget")
	}
	// What may pass by itself is tried again.
	s := held(t, created())
	s.fold(&events.DirectoryRemoved{Directory: "d", Pool: "p", IfEmpty: true})
	for range refuseAfter {
		s.acknowledge(s.step("remove from holder"), fault.Timeout)
		s.now += events.Instant(retryMax)
	}
	s.step("removal refused")
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

func TestDemotion(t *testing.T) {
	s := held(t, created())
	s.fold(demote())
	release := s.step("demote").(*events.ReleaseRequested)
	if !release.Demote || release.Remove || release.Epoch != 1 {
		t.Errorf("release %+v", release)
	}
	// The node dies first: nobody may follow before the ownership has ended.
	s.fold(down("a", "1")...)
	s.step("fence")
	s.step("no node to demote")
	s.fold(up("b", "1")...)
	s.step("place to demote")
	if f := s.step("demote unheld").(*events.ReleaseRequested); !f.Demote || f.Node != "b" || f.Role != events.Master {
		t.Errorf("release %+v", f)
	} else {
		s.acknowledge(f, "")
	}
	if f := s.step("map in the new role").(*events.DirectoryMapped); f.Role != events.Slave || f.Node != "b" || f.Epoch != 3 {
		t.Errorf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
}

func TestRefusedDemotion(t *testing.T) {
	s := held(t, created())
	s.fold(demote())
	s.acknowledge(s.step("demote"), fault.Busy)
	if f := s.step("change of role refused").(*events.RoleChangeRefused); f.Role != events.Master || f.Code != "busy" {
		t.Errorf("refused %+v", f)
	}
	s.fold(demote()) // at once again: the former refusal says nothing about it
	s.acknowledge(s.step("demote"), fault.Busy)
	s.step("change of role refused")
	s.acknowledge(s.step("acquire"), "") // whatever the release left behind
	s.step("held")
}

func TestPromotion(t *testing.T) {
	for _, force := range []bool{false, true} {
		s := held(t, tracked())
		s.fold(promote(force))
		s.acknowledge(s.step("let go of the old role"), "")
		s.step("map in the new role")
		acquire := s.step("acquire").(*events.AcquireRequested)
		want := events.TagPromoted
		if force {
			want = events.TagForced
		}
		if acquire.Promote != want || acquire.Role != events.Master || acquire.Epoch != 2 {
			t.Errorf("acquire %+v", acquire)
		}
		s.acknowledge(acquire, "")
		s.step("held")
		s.fold(up("a", "2")...)
		s.step("fence")
		s.step("map again")
		if f := s.step("acquire").(*events.AcquireRequested); f.Promote != "" {
			t.Errorf("promoted again: %+v", f)
		}
	}
}

func TestRefusedPromotion(t *testing.T) {
	s := held(t, tracked())
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), "")
	s.step("map in the new role")
	for range refuseAfter {
		s.acknowledge(s.step("acquire"), fault.Internal)
		s.now += events.Instant(retryMax)
	}
	s.step("change of role refused")
	if f := s.step("map in the new role").(*events.DirectoryMapped); f.Role != events.Slave || f.Epoch != 3 {
		t.Errorf("mapped %+v", f)
	}
	s.acknowledge(s.step("acquire"), "")
	s.step("held")

	// A replayer that does not let go ends it, too; nobody has anything to give back.
	s.fold(promote(false))
	s.acknowledge(s.step("let go of the old role"), fault.Corrupt)
	s.step("change of role refused")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
}

// A replica that went to a node which only follows is not promoted at the node that it came
// from: the copy there is old.
func TestPromotionAtACopyWithoutJournal(t *testing.T) {
	s := held(t, tracked())
	s.fold(down("a", "1")...)
	s.step("fence")
	s.fold(&events.InstanceAdded{Node: "b", Service: events.ServiceReplayer, Incarnation: "2"})
	s.step("map")
	s.acknowledge(s.step("acquire"), "")
	s.step("held")
	s.fold(up("a", "3")...)
	s.step("held")
	placeable := func() error { return newView(s.state, "d", s.now, "").placeable(events.Master) }
	if err := placeable(); fault.CodeOf(err) != fault.NotReady || !strings.Contains(err.Error(), "at node b") {
		t.Errorf("promotion: %v", err)
	}
	s.fold(&events.InstanceAdded{Node: "b", Service: events.ServiceJournal, Incarnation: "2"})
	if err := placeable(); err != nil {
		t.Errorf("with a journal service: %v", err)
	}
	s.fold(down("b", "2")...) // an older copy is better than none
	if err := placeable(); err != nil {
		t.Errorf("where that node is gone: %v", err)
	}
}

// A promotion that nobody could carry out leaves the replica alone.
func TestPromotionWithoutANode(t *testing.T) {
	s := held(t, tracked())
	s.fold(&events.InstanceRemoved{Node: "a", Service: events.ServiceJournal, Incarnation: "1"}, promote(false))
	s.step("no node for the new role")
	if d := Decide(s.state, "d", s.now, ""); !d.Stalled {
		t.Error("it is not stalled")
	}
	s.fold(up("a", "1")...)
	s.step("let go of the old role")
}

// directories 104, 121: 1 s, doubling to 30 s; a new incarnation is asked at once.
func TestBackOff(t *testing.T) {
	s := newScript(t)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	var waits []int
	for range 7 {
		s.acknowledge(s.step("acquire"), fault.Internal)
		d := Decide(s.state, "d", s.now, "op")
		if d.Fact != nil {
			t.Fatalf("asked again at once: %+v", d.Fact)
		}
		waits = append(waits, int((d.Wake-s.now)/1e9))
		s.now = d.Wake
	}
	if want := []int{1, 2, 4, 8, 16, 30, 30}; !reflect.DeepEqual(waits, want) {
		t.Errorf("waited %v, want %v", waits, want)
	}
	s.acknowledge(s.step("acquire"), fault.Internal)
	s.fold(up("a", "2")...)
	if f := s.step("acquire"); f == nil {
		t.Error("the new incarnation waits for the old one's failures")
	}
}

// A clock that is ahead where the answer comes from, or one here that is put back, puts no
// directory off.
func TestBackOffWithWrongClocks(t *testing.T) {
	s := newScript(t)
	s.now = events.Instant(time.Hour)
	s.fold(up("a", "1")...)
	s.fold(created())
	s.step("map")
	fail := func(at events.Instant) {
		f := s.step("acquire").(*events.AcquireRequested)
		s.fold(&events.AcquireAcknowledged{Assignment: f.Assignment, Code: string(fault.Internal), At: at})
	}
	for _, want := range []time.Duration{time.Second, 2 * time.Second} {
		fail(s.now + events.Instant(time.Hour))
		d := Decide(s.state, "d", s.now, "op")
		if d.Fact != nil || d.Wake.Sub(s.now) != want {
			t.Fatalf("asked again %+v in %s, want %s", d.Fact, d.Wake.Sub(s.now), want)
		}
		s.now = d.Wake
	}
	fail(s.now)
	s.now -= events.Instant(30 * time.Minute)
	s.step("acquire")
}

// A replica that one node cannot take goes to another; a master stays where its data is.
func TestMoveElsewhere(t *testing.T) {
	for _, c := range []struct {
		fact events.Fact
		row  string
	}{{tracked(), "move elsewhere"}, {created(), "acquire"}} {
		s := newScript(t)
		s.fold(up("a", "1")...)
		s.fold(c.fact)
		s.step("map")
		s.fold(up("b", "1")...)
		for range moveAfter {
			s.acknowledge(s.step("acquire"), fault.NoSpace)
			s.now += events.Instant(retryMax)
		}
		s.step(c.row)
	}
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
