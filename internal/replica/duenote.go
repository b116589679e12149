package replica

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/cespare/xxhash/v2"

	"tidemark/events"
	"tidemark/internal/vfs"
)

// dueName is the note of how far a journal was due that is applied with a delay, beside the
// metadata.
const dueName = "due"

// dueNoteSize is a sequence and a checksum of it.
const dueNoteSize = 16

// dueNote is how far the journal may have been applied: nothing behind it was. Without one
// anything may have been that the journal holds. A copy that was not closed in order is
// whole only once that is applied again, due or not.
type dueNote struct {
	mu       sync.Mutex // taken last; protects what follows
	file     vfs.File   // nil while there is none
	noted    bool
	sequence uint64
}

// NoteDue notes, durably, that nothing behind the message with a sequence in the journal's
// stream is applied before the next call: it comes before such messages are applied.
func (r *Replica) NoteDue(sequence uint64) error {
	r.due.mu.Lock()
	defer r.due.mu.Unlock()
	return r.noteDue(sequence)
}

// noteDue is NoteDue for the holder of due.mu.
func (r *Replica) noteDue(sequence uint64) error {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, dueNoteSize), sequence)
	if err := r.writeDue(binary.LittleEndian.AppendUint64(b, xxhash.Sum64(b))); err != nil {
		return err
	}
	r.due.noted, r.due.sequence = true, sequence
	return nil
}

// ForgetDue takes the note back, durably: from then on anything may be applied.
func (r *Replica) ForgetDue() error {
	r.due.mu.Lock()
	defer r.due.mu.Unlock()
	if !r.due.noted {
		return nil
	}
	if err := r.writeDue(make([]byte, dueNoteSize)); err != nil {
		return err
	}
	r.due.noted, r.due.sequence = false, 0
	return nil
}

// NotedDue returns what was noted last, before this replica was opened or since; ok is
// false without a note.
func (r *Replica) NotedDue() (sequence uint64, ok bool) {
	r.due.mu.Lock()
	defer r.due.mu.Unlock()
	return r.due.sequence, r.due.noted
}

// renoteDue changes the sequence of the note, if there is one.
func (r *Replica) renoteDue(sequence uint64) error {
	r.due.mu.Lock()
	defer r.due.mu.Unlock()
	if !r.due.noted {
		return nil
	}
	return r.noteDue(sequence)
}

// writeDue writes the note. due.mu is held.
func (r *Replica) writeDue(b []byte) error {
	made := r.due.file == nil
	if made {
		file, err := r.fs.Create(filepath.Join(r.dir, dueName))
		if err != nil {
			return fmt.Errorf("note how far the journal is due: %w", err)
		}
		r.due.file = file
	}
	_, err := r.due.file.WriteAt(b, 0)
	if err == nil {
		err = r.due.file.Sync()
	}
	if err == nil && made {
		err = r.fs.SyncDir(r.dir)
	}
	if err != nil {
		return fmt.Errorf("note how far the journal is due: %w", err)
	}
	return nil
}

// loadDueNote reads the note of an earlier life. One that is torn is none.
func (r *Replica) loadDueNote() error {
	name := filepath.Join(r.dir, dueName)
	if there, err := r.fs.Exists(name); err != nil || !there {
		return err
	}
	file, err := r.fs.Open(name)
	if err != nil {
		return err
	}
	r.due.file = file
	b := make([]byte, dueNoteSize)
	if n, err := file.ReadAt(b, 0); n < len(b) {
		if err != nil && err != io.EOF { //nolint:errorlint // ReaderAt returns it bare
			return fmt.Errorf("read how far the journal was due: %w", err)
		}
		return nil
	}
	if binary.LittleEndian.Uint64(b[8:]) == xxhash.Sum64(b[:8]) {
		r.due.noted, r.due.sequence = true, binary.LittleEndian.Uint64(b)
	}
	return nil
}

// Reach returns the position that replay must have passed before a copy that was synced is
// consistent; zero once it is.
func (r *Replica) Reach() events.Position {
	r.applying.Lock()
	defer r.applying.Unlock()
	if !r.catchingUp() {
		return 0
	}
	return r.reach
}
