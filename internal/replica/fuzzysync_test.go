package replica

import (
	"bytes"
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

// copyDiffers compares a copy of an object with the model.
func (m *modelImage) copyDiffers(index uint64, c ObjectCopy) error {
	if c.Version != m.versions[index] {
		return fmt.Errorf("copy of object %d has version %v, not %v", index, c.Version, m.versions[index])
	}
	data := c.Data
	for b := index * m.objectSize / BlockSize; b < (index+1)*m.objectSize/BlockSize; b++ {
		i := b - index*m.objectSize/BlockSize
		if got := c.Blocks != nil && c.Blocks[i/64]>>(i%64)&1 == 1; got != m.allocated[b] {
			return fmt.Errorf("copy of object %d: block %d allocated is %v", index, i, got)
		}
		if m.allocated[b] {
			if !bytes.Equal(data[:BlockSize], m.data[b*BlockSize:(b+1)*BlockSize]) {
				return fmt.Errorf("copy of object %d: block %d differs", index, i)
			}
			data = data[BlockSize:]
		}
	}
	if len(data) != 0 {
		return fmt.Errorf("copy of object %d has %d bytes too many", index, len(data))
	}
	return nil
}

// fuzzySync is a source that keeps applying, and a follower that copies from it.
type fuzzySync struct {
	t        *testing.T
	rng      *rand.Rand
	j        *journal
	source   *Replica
	follower *Replica
	dir      string // the follower's
	fs       *vfs.Crash
	copies   int
	crashes  int
	before   events.Position // what a follower that was killed had applied: its files are ahead until then
}

func TestFuzzySync(t *testing.T) {
	for seed := range sitetest.Rounds(uint64(60)) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 5))
			s := &fuzzySync{t: t, rng: rng, j: newJournal(rng.IntN), dir: filepath.Join(memDir(t), "follower")}
			s.source = create1(t, vfs.OS(), filepath.Join(memDir(t), "source"))
			for range 5 + rng.IntN(20) {
				s.advance()
			}
			s.run()
		})
	}
}

// advance makes the source apply one more message, of the journal's end.
func (s *fuzzySync) advance() {
	s.j.random(6)
	mustApply(s.t, s.source, s.j.messages[len(s.j.messages)-1])
}

func (s *fuzzySync) run() {
	t := s.t
	s.fs = vfs.NewCrash(vfs.OS(), nil)
	s.follower = create1(t, s.fs, s.dir)
	start, err := s.source.SyncStart()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.follower.BeginSync(start); err != nil {
		t.Fatal(err)
	}
	for {
		for range s.rng.IntN(6) {
			s.advance()
		}
		release := s.source.HoldCompaction()
		complete := s.copyAll(start)
		release()
		if complete {
			break
		}
		compactSome(t, s.source, s.rng) // a source merges layers when it does not serve
	}
	if err := s.follower.EndSync(s.source.Applied().Position, s.source.Applied().Position); err != nil {
		t.Fatal(err)
	}
	for range s.rng.IntN(6) {
		s.advance()
	}
	reached := s.follower.reach
	for s.follower.Applied() != s.j.mark {
		for i, m := range s.j.messages {
			if m.Ends().Position <= s.follower.Applied().Position {
				continue
			}
			mustApply(t, s.follower, m)
			if s.rng.IntN(8) == 0 {
				mustCheckpoint(t, s.follower)
			}
			if s.rng.IntN(20) == 0 && s.crashes < 6 {
				s.restart()
				break
			}
			if want := m.Ends().Position >= reached; s.follower.Consistent() != want {
				t.Fatalf("at %v, with copies up to %v, consistent is %v", m.Ends().Position, reached, !want)
			} else if want && m.Ends().Position >= s.before {
				s.j.states[i].check(t, s.follower)
			}
		}
	}
	if !s.follower.Consistent() {
		t.Fatalf("not consistent at the end, %v with copies up to %v", s.follower.Applied(), reached)
	}
	s.j.now.check(t, s.source)
	s.j.now.check(t, s.follower)
}

// restart cuts the follower's power and opens what is left.
func (s *fuzzySync) restart() {
	s.crashes++
	s.before = max(s.before, s.follower.Applied().Position)
	dir := filepath.Join(memDir(s.t), "follower")
	if err := s.fs.Image(s.dir, dir, s.rng); err != nil {
		s.t.Fatal(err)
	}
	if err := s.follower.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.fs, s.dir = vfs.NewCrash(vfs.OS(), nil), dir
	s.follower = reopen(s.t, s.fs, dir)
}

// copyAll copies what the follower lacks in random order, while the source goes on. It
// returns false when the follower was killed.
func (s *fuzzySync) copyAll(start SyncStart) bool {
	type object struct {
		layer LayerID
		index uint64
	}
	here := make(map[LayerID]LayerRecord)
	for _, l := range s.follower.Layers() {
		here[l.ID] = l
	}
	merged := make(map[LayerID]bool)
	for _, l := range s.source.Layers() {
		merged[l.ID] = here[l.ID].ID != 0 && here[l.ID].Parent != l.Parent
	}
	var todo []object
	for _, record := range start.Layers {
		indices, err := s.source.LayerObjects(record.ID)
		if errors.Is(err, ErrNotFound) {
			continue // dropped meanwhile: replay will
		}
		for i := range indices {
			if _, ok := s.follower.Synced(record.ID, i); !ok || merged[record.ID] {
				todo = append(todo, object{record.ID, i})
			}
		}
	}
	s.rng.Shuffle(len(todo), func(i, k int) { todo[i], todo[k] = todo[k], todo[i] })
	var buf []byte
	for _, o := range todo {
		if s.rng.IntN(3) == 0 {
			s.advance()
		}
		c, err := s.source.CopyObject(o.layer, o.index, buf)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			s.t.Fatal(err)
		}
		buf = c.Data
		if err := s.follower.InstallObject(o.layer, o.index, c); err != nil {
			s.t.Fatal(err)
		}
		s.copies++
		if s.rng.IntN(6) == 0 {
			mustCheckpoint(s.t, s.follower)
		}
		if s.rng.IntN(12) == 0 && s.crashes < 3 {
			s.restart()
			if !s.follower.Syncing() {
				s.t.Fatal("the sync was forgotten")
			}
			return false
		}
	}
	return true
}
