package replica

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"tidemark/events"
	"tidemark/internal/vfs"
)

// safeName is the note of how far the journal was known to be safe, beside the metadata.
const safeName = "safe"

// safeNoteSize is sequence, position, chain and a checksum of the three.
const safeNoteSize = 32

// safeNote is how far the journal was known to be safe, when that was last noted: what a
// journal must reach at least when the replica is opened again. It is synced only
// when the journal begins anew, so after power loss it may be older, and is never newer than a
// log that keeps what it has synced.
type safeNote struct {
	file     vfs.File // nil until something is noted
	mark     events.Mark
	sequence uint64
}

// NoteSafe notes that the journal is safe up to a mark, which ends the message with a
// sequence in its stream. It costs a write into the page cache. It is called by one at a
// time.
func (r *Replica) NoteSafe(mark events.Mark, sequence uint64) error {
	if r.safe.file == nil {
		file, err := r.fs.Create(filepath.Join(r.dir, safeName))
		if err != nil {
			return fmt.Errorf("note how far the journal is safe: %w", err)
		}
		r.safe.file = file
	}
	if _, err := r.safe.file.WriteAt(encodeSafeNote(mark, sequence), 0); err != nil {
		return fmt.Errorf("note how far the journal is safe: %w", err)
	}
	r.safe.mark, r.safe.sequence = mark, sequence
	return nil
}

// NotedSafe returns what was noted last, position and chain of the mark alone, before
// this replica was opened or since; zero if there is no note, or none that is whole. It
// is called by who calls [Replica.NoteSafe].
func (r *Replica) NotedSafe() (mark events.Mark, sequence uint64) {
	return r.safe.mark, r.safe.sequence
}

// ContinueBehind makes the replica one whose journal goes on behind the message with a
// sequence, durably: what the journal held between the last checkpoint and there is given
// up. The note keeps its position, because a tag that was given out must not be given out
// again. It is behind the checkpoint at least, which says that something was given up until
// something else is noted.
func (r *Replica) ContinueBehind(sequence uint64) error {
	r.applying.Lock()
	r.mu.Lock()
	r.seq = sequence
	r.mu.Unlock()
	r.altered = true
	r.applying.Unlock()
	mark, err := r.checkpoint()
	if err != nil {
		return fmt.Errorf("continue behind message %d: %w", sequence, err)
	}
	noted, _ := r.NotedSafe()
	if noted.Position <= mark.Position {
		noted = events.Mark{Position: mark.Position + 1}
	}
	return r.renote(noted, sequence)
}

// renote changes both notes, durably: what is on the disk of them otherwise is about a
// journal that is longer than the one which begins now.
func (r *Replica) renote(noted events.Mark, sequence uint64) error {
	if err := r.renoteDue(sequence); err != nil {
		return err
	}
	if err := r.NoteSafe(noted, sequence); err != nil {
		return err
	}
	if err := r.safe.file.Sync(); err != nil {
		return fmt.Errorf("note that the journal goes on behind message %d: %w", sequence, err)
	}
	return nil
}

func encodeSafeNote(mark events.Mark, sequence uint64) []byte {
	b := make([]byte, 0, safeNoteSize)
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint64(b, uint64(mark.Position))
	b = binary.LittleEndian.AppendUint64(b, uint64(mark.Chain))
	return binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))
}

// loadSafeNote reads the note of an earlier life. One that is torn says nothing.
func (r *Replica) loadSafeNote() error {
	name := filepath.Join(r.dir, safeName)
	if there, err := r.fs.Exists(name); err != nil || !there {
		return err
	}
	file, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	r.safe.file = file
	b := make([]byte, safeNoteSize)
	if n, err := file.ReadAt(b, 0); n < len(b) {
		if err != nil && err != io.EOF { //nolint:errorlint // ReaderAt returns it bare
			return fmt.Errorf("read how far the journal was safe: %w", err)
		}
		return nil
	}
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if field(3) == xxhash.Sum64(b[:24]) {
		r.safe.sequence = field(0)
		r.safe.mark = events.Mark{Position: events.Position(field(1)), Chain: events.Chain(field(2))}
	}
	return nil
}
