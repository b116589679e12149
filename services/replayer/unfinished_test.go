package replayer

import (
	"context"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/bus"
	"tidemark/internal/sitetest"
	"tidemark/services/journal"
)

// started publishes the start of an operation and returns its number.
func (s *script) started(intent events.Event) events.Position {
	s.t.Helper()
	s.add(events.Entry{Before: []events.Position{}, Event: events.OperationStarted{Intent: intent}})
	s.publish()
	return s.end.Position
}

// journalOf reads a directory's journal.
func journalOf(t *testing.T, at *sitetest.Site, id events.DirectoryID) []events.JournalMessage {
	t.Helper()
	name := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, id)
	state, err := at.Bus.State(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var all []events.JournalMessage
	err = at.Bus.ReadTo(t.Context(), name, state.First, state.Last, func(m bus.Message) error {
		message, err := events.DecodeJournal(m.Data)
		all = append(all, message)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outcomes returns how the operations in a journal ended, and which have not.
func outcomes(messages []events.JournalMessage) (ended map[events.Position]string, unfinished map[events.Position]bool) {
	ended, unfinished = map[events.Position]string{}, map[events.Position]bool{}
	for _, m := range messages {
		b, ok := m.(*events.Batch)
		if !ok {
			continue
		}
		for i, e := range b.Entries {
			switch event := e.Event.(type) {
			case events.OperationStarted:
				unfinished[b.Position(i)] = true
			case events.OperationFinished:
				delete(unfinished, event.Started)
				ended[event.Started] = event.Failure
			}
		}
	}
	return ended, unfinished
}

// A copy that is promoted finishes what its origin had begun: it comes to be, or it fails
// with the code that says why.
func TestPromotedCopyFinishesOperations(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 4<<20)
	o.create("disk1", 4<<20)
	o.random(20)
	snapped := o.started(events.SnapshotsCreated{Name: "noon", First: 1, Images: []events.ImageID{1}})
	renamed := o.started(events.ImageRenamed{Image: 1, From: "disk0", To: "other"})
	taken := o.started(events.ImageRenamed{Image: 2, From: "disk1", To: "other"})
	resized := o.started(events.ImageResized{Image: 2, Size: 8 << 20})
	o.settle()
	west := heir(t, o)
	sitetest.Eventually(t, "west is level", west.follower.level(o.mark()))
	west.release()
	west.own(events.TagForced)

	ended, unfinished := outcomes(journalOf(t, west.at, westID))
	if len(unfinished) > 0 {
		t.Errorf("unfinished: %v", unfinished)
	}
	for started, want := range map[events.Position]string{snapped: "", renamed: "", taken: "exists", resized: ""} {
		if got, ok := ended[started]; !ok || got != want {
			t.Errorf("operation %v ended with %q, want %q", started, got, want)
		}
	}
	if image := must[api.Image](west, api.ImageInfo, api.ImageRequest{Image: "other"}); image.ID != 1 || image.Snapshots != 1 {
		t.Errorf("%+v", image)
	}
	if image := must[api.Image](west, api.ImageInfo, api.ImageRequest{Image: "disk1"}); image.Size != 8<<20 {
		t.Errorf("%+v", image)
	}
	west.write("other", []byte("after"), 0)
	if string(west.read("vms/prod/other@noon")) != string(o.want("disk0")) {
		t.Error("the snapshot does not hold what there was")
	}
}

// An orderly demotion finishes them before it ends the ownership.
func TestDemotionLeavesNothingUnfinished(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.create("disk0", 4<<20)
	started := o.started(events.ImageRenamed{Image: 1, From: "disk0", To: "other"})
	owner := journal.New(journal.Deps{Bus: o.site.Bus, Node: o.site.Node, Log: o.site.Log})
	sitetest.Run(t, owner.Run)
	<-owner.Ready()
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	if _, _, err := owner.Release(ctx, &events.ReleaseRequested{
		Assignment: events.Assignment{Directory: eastID, Role: events.Master}, Pool: "vms", Path: "/prod", Demote: true,
	}); err != nil {
		t.Fatal(err)
	}
	messages := journalOf(t, o.site, eastID)
	last, isClaim := messages[len(messages)-1].(*events.TagClaimed)
	if !isClaim || last.Reason != events.TagDemoted {
		t.Fatalf("the journal ends with %+v", messages[len(messages)-1])
	}
	ended, unfinished := outcomes(messages)
	if failure, ok := ended[started]; !ok || failure != "" || len(unfinished) > 0 {
		t.Errorf("ended %v, unfinished %v", ended, unfinished)
	}
}
