package journal

import (
	"errors"
	"testing"

	"tidemark/events"
	"tidemark/internal/bus"
	"tidemark/internal/fault"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// tags is what a side holds that has only claimed.
func tags(claims ...events.TagClaimed) lineage.Rest { return lineage.Rest{Tags: claims} }

func claimed(site string, reason events.TagReason) events.TagClaimed {
	return events.TagClaimed{Site: site, Reason: reason}
}

// journal 302, journal 288: what a primary takes for a split brain, and what it does not: a peer that lags, was
// demoted in time, gives up its own claims, or has another directory of the name.
func TestWhatIsASplitBrain(t *testing.T) {
	t.Parallel()
	demoted, opened, forced := events.TagDemoted, events.TagOpened, events.TagForced
	for _, c := range []struct {
		name     string
		relation lineage.Relation
		primary  bool
		want     bool
	}{
		{"a follower that is level", lineage.Relation{Kind: lineage.Same}, false, false},
		{"a follower that lags", lineage.Relation{Kind: lineage.Ahead}, false, false},
		{"entries that are not of this history", lineage.Relation{Kind: lineage.Diverged, Exact: true, Theirs: lineage.Rest{Entries: 1}}, false, true},
		{"claims that a follower gives up", lineage.Relation{Kind: lineage.Diverged, Exact: true, Theirs: tags(claimed("p", opened))}, false, false},
		{"claims of another primary", lineage.Relation{Kind: lineage.Diverged, Exact: true, Theirs: tags(claimed("p", opened))}, true, true},
		{"parted nobody knows where", lineage.Relation{Kind: lineage.Diverged}, false, true},
		{"promoted over us", lineage.Relation{Kind: lineage.Behind, Theirs: tags(claimed("p", forced))}, true, true},
		{"promoted after our demotion", lineage.Relation{Kind: lineage.Behind, Theirs: tags(claimed("s", demoted), claimed("p", events.TagPromoted))}, true, false},
		{"after our demotion, opened before it", lineage.Relation{Kind: lineage.Behind, Theirs: tags(claimed("s", opened), claimed("s", demoted))}, true, false},
		{"we were promoted over it", lineage.Relation{Kind: lineage.Ahead, Ours: tags(claimed("s", forced))}, true, true},
		{"we were promoted after its demotion", lineage.Relation{Kind: lineage.Ahead, Ours: tags(claimed("p", demoted), claimed("s", events.TagPromoted))}, true, false},
		{"forgotten, and a replica", lineage.Relation{Kind: lineage.Unknown}, false, false},
		{"forgotten, and primary", lineage.Relation{Kind: lineage.Unknown}, true, true},
		{"another directory of the name", lineage.Relation{Kind: lineage.OtherLife}, true, false},
	} {
		if got := splitBrain(c.relation, c.primary, "s", "p"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// journal 213, journal 214, journal 216, journal 217: what fails in a promotion is returned as it is, the directory
// is closed, and once the cause is gone the promotion succeeds. One without tags left never does.
func TestPromotionFails(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	syncer, b := &badSync{Syncer: at.Server}, &breakable{}
	guarded(t, at, nil, syncer)
	s, _ := startOn(t, at, b)
	promote := func() error {
		r := asMaster()
		r.Promote = events.TagPromoted
		_, err := s.Acquire(t.Context(), r)
		return err
	}
	d := acquire(t, s)
	create(t, d, "disk0", 8<<20)
	release(t, s, d, true)

	b.fail(vfs.OpOpen, 1)
	if err := promote(); !errors.Is(err, errBroken) || len(s.held()) != 0 {
		t.Errorf("the copy cannot be opened: %v, %d held", err, len(s.held()))
	}
	syncer.bad.Store(true)
	if err := promote(); !errors.Is(err, errBroken) || len(s.held()) != 0 {
		t.Errorf("the claim cannot be made safe: %v, %d held", err, len(s.held()))
	}
	syncer.bad.Store(false)
	if err := promote(); err != nil {
		t.Fatalf("the cause is gone: %v", err)
	}
	d = s.held()[0]
	if got := infoOf(t, at, d, "disk0"); got.Size != 8<<20 {
		t.Errorf("%+v", got)
	}

	release(t, s, d, true)
	exhaust(t, at, d)
	if err := promote(); !errors.Is(err, events.ErrTagsExhausted) || len(s.held()) != 0 {
		t.Errorf("no tag is left: %v, %d held", err, len(s.held()))
	}
}

// exhaust claims the last tag that a directory can have.
func exhaust(t *testing.T, at *sitetest.Site, d *directory) {
	t.Helper()
	log, err := at.Bus.ExistingLog(t.Context(), events.JournalStream(d.name, d.id))
	wantNil(t, err)
	state, err := log.State(t.Context())
	wantNil(t, err)
	var end events.Mark
	wantNil(t, log.ReadTo(t.Context(), state.Last, state.Last, func(m bus.Message) error {
		message, err := events.DecodeJournal(m.Data)
		end = message.Ends()
		return err
	}))
	claim := events.TagClaimed{Tag: ^events.Tag(0), Reason: events.TagDemoted, Site: at.Node.Site.UUID, Predecessor: end}
	msg, _ := claim.Encode(1)
	_, err = log.Append(t.Context(), events.TagSubject(at.Node.Site.Name, d.id), msg, state.Last)
	wantNil(t, err)
}

// journal 213: there is no copy to promote, or none that is complete.
func TestNothingToPromote(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "east")
	s, _ := start(t, at)
	r := asMaster()
	r.Promote = events.TagForced
	if _, err := s.Acquire(t.Context(), r); fault.CodeOf(err) != fault.NotReady || len(s.held()) != 0 {
		t.Errorf("%v", err)
	}
	// The first copy of a replica that another node had is prepared beside an empty one, and
	// what there is of it is not lost.
	dir := at.Node.ReplicaDir(r.Directory)
	for _, dir := range []string{dir, replica.Beside(dir)} {
		c, err := replica.Create(vfs.OS(), dir, replica.Identity{Directory: r.Directory, Name: events.DirectoryName{Pool: r.Pool, Path: r.Path}})
		wantNil(t, err)
		wantNil(t, c.Close())
	}
	if _, err := s.Acquire(t.Context(), r); fault.CodeOf(err) != fault.NotReady || len(s.held()) != 0 {
		t.Errorf("%v", err)
	}
	if there, err := vfs.OS().Exists(replica.Beside(dir)); err != nil || !there {
		t.Errorf("what was prepared is gone (%v)", err)
	}
}
