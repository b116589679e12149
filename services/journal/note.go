package journal

import (
	"context"
	"time"

	"tidemark/events"
)

// closingTime is how long a directory waits, before it is closed for its clients, until
// listeners can know.
const closingTime = time.Second

// note has a turn in the directory's life noted. Nothing depends on it.
func (d *directory) note(what events.Lifecycle, mark events.Mark, detail string) {
	d.noteWith("", what, mark, detail)
}

// noteWith is note of a turn that is about a client of the journal, or another site.
func (d *directory) noteWith(with string, what events.Lifecycle, mark events.Mark, detail string) (stored <-chan struct{}) {
	return d.service.shared.Note(events.LifecycleNoted{
		Directory: d.id, Pool: d.name.Pool, Path: d.name.Path, What: what, With: with, Mark: mark, Detail: detail,
	})
}

// lasts reports whether a turn was noted, perhaps by an earlier owner, and has not ended.
func (d *directory) lasts(ctx context.Context, with string, what events.Lifecycle) bool {
	return d.service.shared.Lasts(ctx, events.LifecycleNoted{Directory: d.id, What: what, With: with})
}

// announceClosing notes that the directory will be closed for its clients, once in each
// life. The channel is closed when that is stored, nil if there is nothing to say.
func (d *directory) announceClosing() (stored <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.state.serves() || d.life == nil {
		return nil
	}
	if d.closing.life != d.life {
		d.closing = closing{d.life, d.noteWith("", events.Closing, d.life.tail.Marks().Committed, "")}
	}
	return d.closing.stored
}

// closing is a life whose end listeners were told of.
type closing struct {
	life   *life
	stored <-chan struct{} // closed when the note is stored, or was given up
}

// awaitAnnounced waits a moment until listeners can know that the directory will be closed.
func (d *directory) awaitAnnounced() {
	stored := d.announceClosing()
	if stored == nil {
		return
	}
	late := time.NewTimer(closingTime)
	defer late.Stop()
	select {
	case <-stored:
	case <-late.C:
	}
}

// announceClosed notes that the directory is closed, if it was open.
func (d *directory) announceClosed() {
	if mark := d.committed(); mark != (events.Mark{}) {
		d.note(events.Closed, mark, "")
	}
}

// committed is how far the copy has come for good; zero before it was opened.
func (d *directory) committed() events.Mark {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life == nil {
		return events.Mark{}
	}
	return d.life.tail.Marks().Committed
}
