package replayer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tidemark/events"
	"tidemark/internal/replica"
	"tidemark/internal/vfs"
)

// A copy that a resync was preparing, and that was killed while it followed, may have in its
// files what only the owner of that time had. It goes on with that owner and no other.
func TestPreparedCopyGoesOnWithItsOwner(t *testing.T) {
	t.Parallel()
	east, west := levelPair(t)
	left := filepath.Join(t.TempDir(), "left") // as it would be after a kill
	copied := func() *replica.Replica {
		t.Helper()
		if err := os.CopyFS(left, os.DirFS(west.at.Node.ReplicaDir(westID))); err != nil {
			t.Fatal(err)
		}
		r, err := replica.Open(vfs.OS(), left)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	west.letGo()
	fresh := copied()
	goesOn := func(p *party) error {
		t.Helper()
		f := p.follower.followers[p.id]
		src, err := f.look(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer src.close()
		return f.goesOn(t.Context(), fresh, src)
	}
	west.follow()
	if err := goesOn(west); err != nil {
		t.Errorf("the owner of that time is refused: %v", err)
	}
	west.release()
	east.release()
	west.own(events.TagForced)
	east.follow()
	east.sameAs(west)
	if err := goesOn(east); !errors.Is(err, errStartOver) {
		t.Errorf("another owner is gone on with: %v", err)
	}
}
