package holder

import (
	"context"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/lineage"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// allowing lets everybody but one site in.
type allowing struct{ refused string }

func (a allowing) Admit(_, site string) error {
	if site == a.refused {
		return fault.New(fault.Denied, "no peer")
	}
	return nil
}

func (allowing) Disconnected(events.DirectoryID, string) bool { return false }

func (allowing) Register(context.Context, events.PositionCommitted) error { return nil }

// claims applies n claims of a site and returns what the copy knows then.
func claims(t *testing.T, r *replica.Replica, n int, site uint16) lineage.History {
	t.Helper()
	for range n {
		end := r.Applied()
		tag, err := end.Position.Tag().Next(site)
		if err != nil {
			t.Fatal(err)
		}
		claim := events.TagClaimed{Tag: tag, Reason: events.TagOpened, Site: "east", Predecessor: end}
		_, claim.Mark = claim.Encode(1)
		if err := r.Apply(&claim, 1); err != nil {
			t.Fatal(err)
		}
	}
	return HistoryOf(r)
}

func newCopy(t *testing.T) *replica.Replica {
	t.Helper()
	r, err := replica.Create(vfs.OS(), t.TempDir()+"/copy", replica.Identity{Directory: "00112233aabbccdd", History: "h"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A long history is asked for page by page, as far back as a comparison needs.
func TestHistoryOfAnotherSite(t *testing.T) {
	at := sitetest.Start(t, "east")
	theirs := newCopy(t)
	source := SyncSource{
		Copy: Copy{ID: "00112233aabbccdd", Name: events.DirectoryName{Pool: "vms", Path: "/prod"}, Replica: theirs}, Followers: allowing{"stranger"},
	}
	stop, err := api.Serve(t.Context(), at.Bus.Conn(), at.Log, api.On(api.HolderSubject(source.ID, api.HistoryRead), source.history))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	old := claims(t, theirs, 10, 1)
	whole := claims(t, theirs, 3*tagsPerPage, 1)
	parted := newCopy(t)
	for _, claim := range old.Tags {
		if err := parted.Apply(&claim, 1); err != nil {
			t.Fatal(err)
		}
	}
	h := Holding{Conn: at.Bus.Conn(), Directory: source.ID, Self: "west"}
	ctx, cancel := context.WithTimeout(t.Context(), sitetest.Patience)
	defer cancel()
	for _, c := range []struct {
		name string
		ours lineage.History
		tags int // at most, that travel
		want lineage.Kind
	}{
		{"level", whole, 1, lineage.Same},
		{"long behind", old, 3*tagsPerPage + 1, lineage.Behind},
		{"long parted", claims(t, parted, 2, 2), 3*tagsPerPage + 10, lineage.Diverged},
		{"empty", lineage.History{}, 3*tagsPerPage + 10, lineage.Behind},
	} {
		got, err := h.History(ctx, c.ours)
		if err != nil {
			t.Fatal(err)
		}
		r := lineage.Compare(c.ours, got)
		if r.Kind != c.want || !r.Exact || len(got.Tags) > c.tags || !got.End.Same(whole.End) {
			t.Errorf("%s: %s (exact %v), %d tags", c.name, r.Kind, r.Exact, len(got.Tags))
		}
		if c.want == lineage.Diverged && !r.Common.Same(old.End) {
			t.Errorf("%s: at %v, want %v", c.name, r.Common.Position, old.End.Position)
		}
	}
	h.Self = "stranger"
	if _, err := h.History(ctx, old); fault.CodeOf(err) != fault.Denied {
		t.Errorf("who is no peer is told: %v", err)
	}
}
