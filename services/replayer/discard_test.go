package replayer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/holder"
	"tidemark/internal/replica"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// moved is a site whose replica went from one node to another, which keeps its old copy.
type moved struct {
	t       *testing.T
	origin  *origin
	at      *sitetest.Site
	link    *sitetest.Link
	dir     string // of the old copy
	backup  string
	holder  *Service
	release func()
}

func newMoved(t *testing.T) *moved {
	m := &moved{t: t, origin: newOrigin(t), at: sitetest.Start(t, "west"), backup: filepath.Join(t.TempDir(), "backup")}
	m.origin.create("disk0", 8<<20)
	m.origin.random(50)
	m.origin.settle()
	m.link = sitetest.NewLink(t, m.origin.site.Server.URL())
	addPeer(t, m.at, m.origin.site.Node.Site, m.link.URL)
	first, stop := follow(t, m.at)
	sitetest.Eventually(t, "the first node is level", first.level(m.origin.mark()))
	stop()
	m.dir = m.at.Node.ReplicaDir(westID)
	if err := os.CopyFS(m.backup, os.DirFS(m.dir)); err != nil {
		t.Fatal(err)
	}
	return m
}

// goOn has the other node follow.
func (m *moved) goOn() {
	other := *m.at
	other.Node.Name, other.Node.Data, other.Node.Incarnation = "n2", m.t.TempDir(), "inc-2"
	m.origin.random(50)
	m.origin.settle()
	m.holder, m.release = follow(m.t, &other)
	sitetest.Eventually(m.t, "the second node is level", m.holder.level(m.origin.mark()))
	m.heard()
}

// heard waits until the second node follows and hears of its primary.
func (m *moved) heard() {
	m.t.Helper()
	sitetest.Eventually(m.t, "the second node follows", func() bool {
		head := events.HeadAdvanced{Directory: eastID, Logged: m.origin.mark(), Safe: m.origin.mark(), At: events.InstantOf(time.Now())}
		if err := m.origin.site.Bus.Send(&head); err != nil {
			m.t.Fatal(err)
		}
		return m.holder.followers[westID].described().State == string(Replaying)
	})
}

// discard asks the first node to delete its copy.
func (m *moved) discard(fsys vfs.FS) error {
	old := New(Deps{Bus: m.at.Bus, Node: m.at.Node, Log: m.at.Log, FS: fsys})
	_, _, err := old.Release(m.t.Context(), &events.ReleaseRequested{
		Assignment: events.Assignment{Operation: "9", Directory: westID, Node: m.at.Node.Name, Role: events.Slave, Epoch: 2},
		Pool:       "vms", Path: "/prod", Discard: true,
	})
	return err
}

// discardHeard is discard while the primary is heard: between two heads of the script it may
// not be.
func (m *moved) discardHeard(fsys func() vfs.FS) (err error) {
	m.t.Helper()
	sitetest.Eventually(m.t, "the primary is heard", func() bool {
		m.heard()
		err = m.discard(fsys())
		return err == nil || !strings.Contains(err.Error(), "("+string(Stopped)+")")
	})
	return err
}

func osFS() vfs.FS { return vfs.OS() }

// there reports whether the first node's copy is one, whole.
func (m *moved) there() bool {
	m.t.Helper()
	r, err := replica.Open(vfs.OS(), m.dir)
	if errors.Is(err, replica.ErrNotFound) {
		return false
	}
	if err != nil {
		m.t.Fatalf("the old copy: %v", err)
	}
	if r.Applied() == (events.Mark{}) {
		m.t.Error("the old copy is empty")
	}
	if err := r.Close(); err != nil {
		m.t.Fatal(err)
	}
	return true
}

func (m *moved) refused(why string, want fault.Code) {
	m.t.Helper()
	if err := m.discard(vfs.OS()); fault.CodeOf(err) != want {
		m.t.Errorf("%s: %v", why, err)
	}
	if !m.there() {
		m.t.Errorf("%s: the copy is gone", why)
	}
}

// An old copy is deleted only while another node of the site has all that is in it and follows
// the primary, and nothing is kept beside it.
func TestOldCopyStaysWhileItMayBeNeeded(t *testing.T) {
	t.Parallel()
	m := newMoved(t)
	m.refused("nobody holds the directory", fault.NotReady)
	m.link.Cut()
	other := *m.at
	other.Node.Name, other.Node.Data, other.Node.Incarnation = "n2", t.TempDir(), "inc-2"
	_, stop := follow(t, &other)
	m.refused("the other node has no copy yet", fault.NotReady)
	stop()
	m.link.Heal()
	m.goOn()
	m.link.Cut()
	sitetest.Eventually(t, "the primary is not heard", func() bool { return m.holder.followers[westID].described().State != string(Replaying) })
	m.refused("the other node does not hear the primary", fault.NotReady)
	m.link.Heal()
	m.heard()

	kept := replica.Refused(m.dir, "x")
	if err := os.CopyFS(kept, os.DirFS(m.backup)); err != nil {
		t.Fatal(err)
	}
	m.refused("a side that was given up is kept beside it", fault.Busy)
	if err := os.RemoveAll(kept); err != nil {
		t.Fatal(err)
	}

	r, err := replica.Open(vfs.OS(), m.dir)
	if err != nil {
		t.Fatal(err)
	}
	m.refusedOpen()
	ours := holder.HistoryOf(r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	ours.End = events.Mark{Position: m.origin.mark().Position + 1, Chain: 1}
	old := New(Deps{Bus: m.at.Bus, Node: m.at.Node, Log: m.at.Log})
	sitetest.Eventually(t, "it has an entry that the holder lacks", func() bool {
		m.heard()
		return fault.CodeOf(old.heldWhole(t.Context(), westID, ours)) == fault.Busy
	})
	if err := m.holder.discard(t.Context(), westID, events.DirectoryName{Pool: "vms", Path: "/prod"}); fault.CodeOf(err) != fault.Busy {
		t.Errorf("the copy in use: %v", err)
	}
	if err := m.discardHeard(osFS); err != nil || m.there() {
		t.Errorf("nobody needs it: %v", err)
	}
}

// refusedOpen asks while somebody has the copy open.
func (m *moved) refusedOpen() {
	m.t.Helper()
	if err := m.discard(vfs.OS()); fault.CodeOf(err) != fault.Busy {
		m.t.Errorf("the copy is open: %v", err)
	}
}

// Killed at any step, the old copy is whole or is none; asked again it is gone, with all that was
// left of it. The copy in use and the site's journal are untouched.
func TestOldCopyIsDiscardedAcrossKills(t *testing.T) {
	t.Parallel()
	m := newMoved(t)
	m.goOn()
	m.origin.random(20) // in the site's journal
	m.origin.settle()
	sitetest.Eventually(t, "the second node follows", m.holder.level(m.origin.mark()))
	killed := errors.New("the process is dead")
	stayed, went := 0, 0
	for step, hit := 1, true; hit; step++ {
		if err := os.RemoveAll(m.dir); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(m.dir, os.DirFS(m.backup)); err != nil {
			t.Fatal(err)
		}
		err := m.discardHeard(func() vfs.FS {
			done := 0
			hit = false
			return vfs.NewFaulty(vfs.OS(), func(vfs.Op) error {
				if done++; done >= step {
					hit = true
					return killed
				}
				return nil
			})
		})
		if (err == nil) != !hit {
			t.Fatalf("killed at step %d, %v: %v", step, hit, err)
		}
		if m.there() {
			stayed++
		} else {
			went++
		}
		if err := m.discardHeard(osFS); err != nil {
			t.Fatalf("again after step %d: %v", step, err)
		}
		if _, err := os.Stat(m.dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("after step %d there is something left: %v", step, err)
		}
	}
	if stayed == 0 || went < 2 {
		t.Errorf("the copy was there after %d kills, and not after %d", stayed, went)
	}
	name := events.JournalStream(events.DirectoryName{Pool: "vms", Path: "/prod"}, westID)
	if state, err := m.at.Bus.State(t.Context(), name); err != nil || state.Last < state.First {
		t.Errorf("the site's journal: %+v, %v", state, err)
	}
	if !bytes.Equal(content(t, m.holder, "disk0", 8<<20), m.origin.want("disk0")) {
		t.Error("the copy in use differs from its source")
	}
	m.release()
}
