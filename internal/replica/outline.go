package replica

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"tidemark/events"
	"tidemark/internal/fault"
)

// Outline is everything that a directory has besides data, between two messages. It is the
// same on every replica at the same mark: how a replica keeps it in layers is left out.
type Outline struct {
	History      string            `json:"history"`
	Mark         events.Mark       `json:"mark"`
	Images       []ImageRecord     `json:"images"`
	Snapshots    []SnapshotRecord  `json:"snapshots"`
	Unfinished   []Operation       `json:"unfinished"`
	NextImage    events.ImageID    `json:"next_image"`
	NextSnapshot events.SnapshotID `json:"next_snapshot"`
}

// Outline returns the replica's outline as of the last message applied. It fails with
// [ErrSyncing] while the replica is not consistent.
func (r *Replica) Outline() (Outline, error) {
	r.applying.Lock()
	defer r.applying.Unlock()
	if r.syncing || r.catchingUp() {
		return Outline{}, fault.New(fault.NotReady, "describe the directory: %w", ErrSyncing)
	}
	return r.outline(), nil
}

// outline is Outline for the holder of applying.
func (r *Replica) outline() Outline {
	o := Outline{
		History: r.Identity().History, Mark: r.Applied(), Unfinished: slices.Clone(r.unfinished),
		NextImage: r.nextImage, NextSnapshot: r.nextSnapshot,
	}
	for _, img := range r.images {
		record := img.record()
		record.Layer = 0
		record.Metadata = maps.Clone(record.Metadata)
		o.Images = append(o.Images, record)
	}
	for _, snapshot := range r.snapshots {
		record := snapshot.record()
		record.Layer = 0
		o.Snapshots = append(o.Snapshots, record)
	}
	slices.SortFunc(o.Images, func(a, b ImageRecord) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(o.Snapshots, func(a, b SnapshotRecord) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return o
}

// OutlineWitness waits for the outline of the replica at exactly a position.
type OutlineWitness struct {
	at      events.Position
	done    chan struct{}
	Outline Outline // once Done is closed
}

// Done is closed when the position is reached.
func (w *OutlineWitness) Done() <-chan struct{} { return w.done }

// OutlineAt returns the replica's outline when it comes to a position, at which a message
// ends. passed is true when it is behind that already: then nothing comes.
func (r *Replica) OutlineAt(at events.Position) (w *OutlineWitness, passed bool) {
	r.applying.Lock()
	defer r.applying.Unlock()
	w = &OutlineWitness{at: at, done: make(chan struct{})}
	switch now := r.Applied().Position; {
	case now > at:
		return w, true
	case now == at:
		w.Outline = r.outline()
		close(w.done)
		return w, false
	}
	ws := &r.witnesses
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.outlines = append(ws.outlines, w)
	ws.waiting.Add(1)
	return w, false
}

// arrived tells the witnesses that a message was applied. applying is held.
func (r *Replica) arrived(at events.Position) {
	ws := &r.witnesses
	if ws.waiting.Load() == 0 {
		return
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	left := ws.outlines[:0]
	for _, w := range ws.outlines {
		switch {
		case w.at > at:
			left = append(left, w)
			continue
		case w.at == at:
			w.Outline = r.outline()
			close(w.done)
		}
		ws.waiting.Add(-1) // it was reached, or never will be
	}
	clear(ws.outlines[len(left):])
	ws.outlines = left
}

// Difference is what two outlines do not agree about.
type Difference struct {
	Image    string // by name; empty: the directory
	Snapshot string // by name; empty: the image itself
	What     string
}

// Differences compares the outlines of a copy and its source, which are of one mark.
func (o *Outline) Differences(source *Outline) []Difference {
	var out []Difference
	if o.History != source.History {
		out = append(out, Difference{What: fmt.Sprintf("history %s, at the source %s", o.History, source.History)})
	}
	if !reflect.DeepEqual(o.Unfinished, source.Unfinished) && len(o.Unfinished)+len(source.Unfinished) > 0 {
		out = append(out, Difference{What: fmt.Sprintf("%d unfinished operations, at the source %d", len(o.Unfinished), len(source.Unfinished))})
	}
	if o.NextImage != source.NextImage || o.NextSnapshot != source.NextSnapshot {
		out = append(out, Difference{What: "other numbers for the next image and snapshot than at the source"})
	}
	names := map[events.ImageID]string{}
	for _, record := range slices.Concat(source.Images, o.Images) {
		names[record.ID] = record.Name
	}
	imageID := func(r ImageRecord) events.ImageID { return r.ID }
	for _, d := range unequal(o.Images, source.Images, imageID, sameImage) {
		out = append(out, Difference{Image: d.one.Name, What: d.what})
	}
	snapshotID := func(r SnapshotRecord) events.SnapshotID { return r.ID }
	for _, d := range unequal(o.Snapshots, source.Snapshots, snapshotID, func(a, b SnapshotRecord) bool { return a == b }) {
		out = append(out, Difference{Image: names[d.one.Image], Snapshot: d.one.Name, What: d.what})
	}
	return out
}

// sameImage compares records as a source sends them: what is empty may be nil.
func sameImage(a, b ImageRecord) bool {
	if !slices.Equal(a.Links, b.Links) || !slices.Equal(a.Features, b.Features) || !maps.Equal(a.Metadata, b.Metadata) {
		return false
	}
	a.Links, a.Features, a.Metadata = b.Links, b.Features, b.Metadata
	return reflect.DeepEqual(a, b)
}

type unequalPair[T any] struct {
	one  T
	what string
}

// unequal returns what two lists of records differ in, by the records' numbers.
func unequal[T any, ID comparable](here, there []T, id func(T) ID, same func(a, b T) bool) []unequalPair[T] {
	known := make(map[ID]T, len(here))
	for _, one := range here {
		known[id(one)] = one
	}
	var out []unequalPair[T]
	for _, theirs := range there {
		ours, ok := known[id(theirs)]
		delete(known, id(theirs))
		switch {
		case !ok:
			out = append(out, unequalPair[T]{theirs, "it is at the source only"})
		case !same(ours, theirs):
			out = append(out, unequalPair[T]{theirs, fmt.Sprintf("its record is %+v, at the source %+v", ours, theirs)})
		}
	}
	for _, ours := range here {
		if _, left := known[id(ours)]; left {
			out = append(out, unequalPair[T]{ours, "the source does not have it"})
		}
	}
	return out
}
