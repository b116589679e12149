package journal

import (
	"context"
	"sync"
	"sync/atomic"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/replica"
)

// importing is one request to execute events again that a journal once held.
type importing struct {
	life    *life
	results []importResult // of each event
	stopped atomic.Bool    // one was refused: nothing behind it is executed
	logging sync.WaitGroup // changes on their way to the log
}

type importResult struct {
	done    bool
	ignored bool // what the event makes true is so already
	err     error
}

// importEvents executes events, in order, as what was asked of this journal now: changes
// as new changes, facts as new operations. All other writers wait meanwhile. The first
// event that cannot be executed ends it, and the reply says so.
func (l *life) importEvents(ctx context.Context, r api.JournalImportRequest) (api.JournalImportReply, error) {
	i := &importing{life: l, results: make([]importResult, len(r.Entries))}
	if err := l.operations.alone(ctx, func(ctx context.Context) error { return i.run(ctx, r.Entries) }); err != nil {
		return api.JournalImportReply{}, err
	}
	return i.reply(), nil
}

func (i *importing) run(ctx context.Context, entries []api.ImportEntry) error {
	w := i.life.writer
	if err := w.pause(); err != nil {
		return err
	}
	defer w.resume()
	defer i.life.directory.importing()()
	for n, entry := range entries {
		i.execute(ctx, &i.results[n], entry)
		if i.stopped.Load() {
			break
		}
	}
	i.logging.Wait()
	return nil
}

// reply counts the events up to the first that was refused. Those behind it were not
// logged either: positions are given out in order, and a refusal takes back all that follow.
func (i *importing) reply() api.JournalImportReply {
	var reply api.JournalImportReply
	for _, r := range i.results {
		switch {
		case r.err != nil:
			reply.Refused = &api.Refusal{Code: fault.CodeOf(r.err), Message: r.err.Error()}
			return reply
		case r.ignored:
			reply.Ignored++
		case r.done:
			reply.Executed++
		}
	}
	return reply
}

// execute carries out one event. A change is done when logging says so.
func (i *importing) execute(ctx context.Context, result *importResult, e api.ImportEntry) {
	entry, err := events.DecodeEntry(e.Entry)
	if err != nil {
		i.finish(result, fault.New(fault.Corrupt, "the event does not decode: %w", err))
		return
	}
	if _, _, _, isChange := events.Range(entry.Event); isChange {
		i.change(ctx, result, e.Image, entry.Event)
		return
	}
	i.logging.Wait() // an operation comes behind what was changed before it
	if i.stopped.Load() {
		return
	}
	result.ignored, err = i.operate(e, entry.Event)
	i.finish(result, err)
}

func (i *importing) finish(result *importResult, err error) {
	result.done, result.err = true, err
	if err != nil {
		i.stopped.Store(true)
	}
}

// change logs a change of data again. What lies beyond the image's end now is left out.
func (i *importing) change(ctx context.Context, result *importResult, name string, event events.Event) {
	image, err := i.life.image(name)
	if err != nil {
		i.finish(result, err)
		return
	}
	parts, err := i.life.writer.changes(image, event)
	switch {
	case err != nil:
		i.finish(result, err)
		return
	case len(parts) == 0:
		result.ignored = true
		return
	}
	if compared, ok := event.(events.CompareWritten); ok && !i.matches(image, compared) {
		result.ignored = true
		return
	}
	i.logging.Add(1)
	i.life.writer.submitParts(ctx, parts, &i.stopped, func(err error) {
		i.finish(result, err)
		i.logging.Done()
	})
}

// matches compares with everything before in the log.
func (i *importing) matches(image *replica.Image, e events.CompareWritten) bool {
	i.logging.Wait()
	return compare(image, e.Offset, e.Compare) == nil
}

// operate carries out again what an operation made true.
func (i *importing) operate(e api.ImportEntry, fact events.Event) (ignored bool, err error) {
	l := i.life
	isolation := isolationOf(fact)
	op := operation{
		isolation: isolation, held: true, destroys: isolation == excluding,
		intend: func() (events.Event, error) { return l.translate(e, fact) },
	}
	if isolation == 0 {
		return false, fault.New(fault.Usage, "an import holds changes and facts, not %T", fact)
	}
	_, err = l.operations.execute(op)
	if trueAlready(fact, fault.CodeOf(err)) {
		return true, nil
	}
	return false, err
}

// trueAlready reports whether an error says that what a fact makes true is so already:
// it does when a journal is replayed over what it led to.
func trueAlready(fact events.Event, code fault.Code) bool {
	switch fact.(type) {
	case events.ImageCreated, events.ImageCloned, events.ImageLinked, events.ImageRenamed,
		events.SnapshotsCreated, events.SnapshotRenamed:
		return code == fault.Exists
	case events.ImageRemoved, events.ImageUnlinked, events.MetadataRemoved, events.SnapshotRemoved:
		return code == fault.NotFound
	case events.SnapshotProtected:
		return code == fault.Busy
	case events.SnapshotUnprotected, events.ImageFlattened, events.SnapshotLimitChanged:
		return code == fault.Usage
	}
	return false
}

// isolationOf says how far an operation that makes a fact true keeps changes away; zero
// for what is no such fact.
func isolationOf(fact events.Event) isolation {
	switch fact.(type) {
	case events.ImageResized, events.ImageRemoved, events.FeatureChanged, events.SnapshotRolledBack:
		return excluding
	case events.SnapshotsCreated:
		return ordering
	case events.ImageCreated, events.ImageCloned, events.ImageRenamed, events.ImageLinked, events.ImageUnlinked,
		events.ImageFlattened, events.MetadataSet, events.MetadataRemoved, events.SnapshotRemoved,
		events.SnapshotRenamed, events.SnapshotProtected, events.SnapshotUnprotected, events.SnapshotLimitChanged:
		return sharing
	}
	return 0
}
