package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"tidemark/events"
	"tidemark/internal/sitetest"
	"tidemark/internal/vfs"
)

// crasher applies a history on a filesystem that takes crash images at chosen
// operations, each with the mark that the replica had committed then.
type crasher struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string // of the replica
	crash  *vfs.Crash
	r      *Replica
	images []crashImage
	every  int
	nested func() // called in a sync, once
}

type crashImage struct {
	dir  string
	mark events.Mark
	at   string
}

func (c *crasher) before(op vfs.Op) {
	if c.r == nil {
		return
	}
	if nested := c.nested; op.Kind == vfs.OpSync && nested != nil {
		c.nested = nil
		nested()
	}
	if c.rng.IntN(c.every) == 0 || op.Kind == vfs.OpSync && c.rng.IntN(4) == 0 {
		c.take(fmt.Sprintf("%v %d of %s", op.Kind, op.Nth, filepath.Base(op.Name)))
	}
}

func (c *crasher) take(at string) {
	dir := filepath.Join(memDir(c.t), "r")
	if err := c.crash.Image(c.dir, dir, c.rng); err != nil {
		c.t.Fatal(err)
	}
	mark, _ := c.r.Committed()
	c.images = append(c.images, crashImage{dir, mark, at})
}

// run applies the messages behind what was applied, several at once, with checkpoints
// between and during them. It stops at the first error.
func (c *crasher) run(messages []events.JournalMessage) error {
	next := 0
	step := func() error {
		from, applied := next, c.r.Applied()
		for next < len(messages) && c.r.Applied() == applied {
			next = stepEnd(messages, next, 1+c.rng.IntN(5))
			if err := replaySteps(c.r, messages[from:next], next-from); err != nil {
				return err
			}
		}
		return nil
	}
	for next < len(messages) {
		if err := step(); err != nil {
			return err
		}
		var nestedErr error
		if c.rng.IntN(2) == 0 { // go on applying while compaction makes its checkpoint
			c.nested = func() {
				if c.r.applying.TryLock() { // it does not hold the applier up
					c.r.applying.Unlock()
					nestedErr = errors.Join(step(), step())
				}
			}
		}
		err := c.compact()
		c.nested = nil
		if err := errors.Join(err, nestedErr); err != nil {
			return err
		}
		if c.rng.IntN(5) > 0 {
			continue
		}
		began := c.r.Applied()
		if c.rng.IntN(2) == 0 { // go on applying while the checkpoint syncs
			c.nested = func() { nestedErr = errors.Join(step(), step()) }
		}
		mark, err := c.r.Checkpoint(c.t.Context())
		c.nested = nil
		if err := errors.Join(err, nestedErr); err != nil {
			return err
		}
		if !mark.Same(began) {
			return fmt.Errorf("the checkpoint begun at %v returned %v", began.Position, mark.Position)
		}
	}
	return nil
}

// compact takes a few steps of compaction, now and then.
func (c *crasher) compact() error {
	for c.rng.IntN(3) == 0 {
		if c.rng.IntN(4) == 0 {
			for _, info := range c.r.Images() {
				_, err := c.r.Pull(c.t.Context(), info.ID)
				if err != nil && !errors.Is(err, ErrNotFound) { // it may go while Pull takes a checkpoint
					return err
				}
			}
		}
		if _, err := c.r.Compact(c.t.Context()); err != nil {
			return err
		}
	}
	return nil
}

func TestCrashAnywhere(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(30)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 2))
			j := newJournal(rng.IntN)
			for range 40 {
				j.random(6)
				if rng.IntN(8) == 0 {
					j.across()
				}
			}
			dir := filepath.Join(memDir(t), "r")
			if err := create1(t, vfs.OS(), dir).Close(); err != nil {
				t.Fatal(err)
			}
			crashAndReplay(t, rng, j, dir, 3)
		})
	}
}

// crashAndReplay opens the replica in dir, replays the journal to its end, and does the
// same with every crash image taken on the way, depth deep.
func crashAndReplay(t *testing.T, rng *rand.Rand, j *journal, dir string, depth int) {
	c := &crasher{t: t, rng: rng, dir: dir, every: 60 * (4 - depth)}
	c.crash = vfs.NewCrash(vfs.OS(), c.before)
	r, err := Open(c.crash, dir)
	if err != nil {
		t.Fatal(err)
	}
	c.r = r
	r.step = stepSize{bytes: 4 * BlockSize, objects: 1 + rng.IntN(4)}
	j.checkRecords(t, r)
	if err := c.run(j.messages); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
	mustCheckpoint(t, r)
	c.take("the end")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if depth == 1 {
		return
	}
	for _, img := range c.images {
		r, err := Open(vfs.OS(), img.dir)
		if err != nil {
			t.Fatalf("open after a crash at %s: %v", img.at, err)
		}
		if mark, _ := r.Committed(); !mark.Same(img.mark) {
			t.Fatalf("a crash at %s left the mark %v, the last checkpoint was %v", img.at, mark.Position, img.mark.Position)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		crashAndReplay(t, rng, j, img.dir, depth-1)
	}
}

// checkRecords demands that images and versions are those of the replica's mark, and
// that what no later message touches has its content already.
func (j *journal) checkRecords(t *testing.T, r *Replica) {
	t.Helper()
	at := -1
	for i, m := range j.messages {
		if m.Ends().Same(r.Applied()) {
			at = i
		}
	}
	if at < 0 {
		if r.Applied() != (events.Mark{}) {
			t.Fatalf("the mark %v is no message's", r.Applied())
		}
		return
	}
	if at == len(j.messages)-1 {
		j.states[at].check(t, r)
	}
	for id, want := range j.states[at].images {
		img, ok := r.Image(id)
		if !ok || img.Size() != want.size || img.Version() != want.version {
			t.Fatalf("image %d is not as of %v", id, r.Applied().Position)
		}
		for i := range objectCount(want.size, want.objectSize) {
			if got := img.ObjectVersion(i); got != want.versions[i] {
				t.Fatalf("object %d of image %d has version %v, not %v", i, id, got, want.versions[i])
			}
		}
	}
}

var errInjected = errors.New("injected")

// TestFailedIO fails every single operation of a run, one per run.
func TestFailedIO(t *testing.T) {
	kinds := []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate, vfs.OpPunchHole, vfs.OpZeroRange, vfs.OpWriteback}
	for seed := range sitetest.Rounds(uint64(2)) {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s/%d", kind, seed), func(t *testing.T) {
				t.Parallel()
				failEach(t, kind, seed)
			})
		}
	}
}

func failEach(t *testing.T, kind vfs.OpKind, seed uint64) {
	for n, step := 1, 1; ; n, step = n+step, step+1 {
		rng := rand.New(rand.NewPCG(seed, 3))
		j := newJournal(rng.IntN)
		for range 25 {
			j.random(6)
		}
		dir := filepath.Join(memDir(t), "r")
		if err := create1(t, vfs.OS(), dir).Close(); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.NewFaulty(vfs.OS(), vfs.FailNth(kind, n, errInjected))
		r := reopen(t, faulty, dir)
		c := &crasher{t: t, rng: rng, r: r}
		err := c.run(j.messages)
		if err == nil {
			_, err = r.Checkpoint(t.Context())
		}
		if faulty.Count(kind) < n {
			if n == 1 {
				t.Fatalf("the run has no %s", kind)
			}
			return // every one had its turn
		}
		if !errors.Is(err, errInjected) {
			t.Fatalf("%s %d failed, and the run returned %v", kind, n, err)
		}
		if r.usable() != nil { // else a step of compaction failed, which changes nothing
			checkFailed(t, r, j)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = reopen(t, vfs.OS(), dir)
		j.checkRecords(t, r)
		if err := replay(r, j.messages); err != nil {
			t.Fatalf("replay after a failure of %s %d: %v", kind, n, err)
		}
		j.now.check(t, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkFailed demands that a replica refuses everything but reads.
func checkFailed(t *testing.T, r *Replica, j *journal) {
	t.Helper()
	if _, err := r.Checkpoint(t.Context()); !errors.Is(err, errInjected) {
		t.Fatalf("checkpoint of a failed replica: %v", err)
	}
	for _, m := range j.messages {
		if err := r.Apply(m, 1); !errors.Is(err, errInjected) {
			t.Fatalf("apply to a failed replica: %v", err)
		}
	}
	for _, info := range r.Images() {
		img, _ := r.Image(info.ID)
		if _, err := img.ReadAt(make([]byte, info.Size), 0); err != nil {
			t.Fatalf("read of a failed replica: %v", err)
		}
	}
}

// TestFailedCommit takes the metadata away under a checkpoint.
func TestFailedCommit(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	j := newJournal(rng.IntN)
	for range 20 {
		j.random(6)
	}
	dir := filepath.Join(memDir(t), "r")
	r := create1(t, vfs.OS(), dir)
	if err := replay(r, j.messages[:10]); err != nil {
		t.Fatal(err)
	}
	mark := mustCheckpoint(t, r)
	if err := r.meta.db.Close(); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, j.messages[10])
	if _, err := r.Checkpoint(t.Context()); err == nil {
		t.Fatal("a checkpoint without metadata succeeded")
	}
	if err := r.Apply(j.messages[11], 1); err == nil {
		t.Fatal("a failed replica applies")
	}
	if got, _ := r.Committed(); got != mark {
		t.Fatalf("committed %v, not %v", got, mark)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, vfs.OS(), dir)
	if err := replay(r, j.messages); err != nil {
		t.Fatal(err)
	}
	j.now.check(t, r)
}
