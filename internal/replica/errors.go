package replica

import (
	"errors"
	"fmt"

	"tidemark/events"
	"tidemark/internal/fault"
)

// What a replica refuses.
var (
	// ErrNotFound is returned where there is no replica, or no image.
	ErrNotFound = errors.New("not found")
	// ErrExists is returned by [Create] where there is a replica, and by
	// [Replica.BeginSync] on one that holds something.
	ErrExists = errors.New("already exists")
	// ErrGap is matched by a [*GapError].
	ErrGap = errors.New("does not continue the history")
	// ErrDiverged is matched by a [*DivergedError].
	ErrDiverged = errors.New("histories have diverged")
	// ErrRange is returned for a range that does not lie within the image.
	ErrRange = errors.New("beyond the end of the image")
	// ErrSyncing is returned by [Replica.Apply] while a first sync runs.
	ErrSyncing = errors.New("the first sync has not ended")
	// ErrNotSyncing is returned by the calls of a first sync when none runs.
	ErrNotSyncing = errors.New("no first sync runs")
	// ErrStale is returned by [Replica.InstallObject] for a copy older than the state
	// that the sync began with: copy the object again, when its source has caught up.
	ErrStale = errors.New("the copy is older than the start of the sync")
	// ErrAstray is returned by [Replica.Apply] when the history goes on without entries that
	// objects include which a first sync has copied: only its former owner had them. The
	// copy was never consistent, and is to be made anew.
	ErrAstray = errors.New("the history goes on without what was copied")
	// ErrClosed is returned by what changes a replica after [Replica.Close].
	ErrClosed = errors.New("the replica is closed")
)

// GapError says that a message does not follow what was applied: something between is
// missing, or the message was applied already.
type GapError struct {
	Applied events.Mark
	Message events.Mark // where the message ends
}

// Behind reports whether everything in the message was applied before, so that it can
// be skipped.
func (e *GapError) Behind() bool { return e.Message.Position <= e.Applied.Position }

// Error implements error.
func (e *GapError) Error() string {
	return fmt.Sprintf("message that ends at %v %v: %v was applied", e.Message.Position, ErrGap, e.Applied.Position)
}

// Is matches [ErrGap].
func (e *GapError) Is(target error) bool { return target == ErrGap }

// DivergedError says that a message belongs to another history than what was applied.
type DivergedError struct {
	Applied events.Mark
	Message events.Mark // where the message ends
}

// Error implements error.
func (e *DivergedError) Error() string {
	return fmt.Sprintf("%v: applied %v with chain %v, which the message that ends at %v does not continue",
		ErrDiverged, e.Applied.Position, e.Applied.Chain, e.Message.Position)
}

// Is matches [ErrDiverged].
func (e *DivergedError) Is(target error) bool { return target == ErrDiverged }

// As offers the error as a [*fault.Error] with the code [fault.SplitBrain].
func (e *DivergedError) As(target any) bool { return asFault(target, fault.SplitBrain, e) }

// MismatchError says that an object does not have the version that an entry demands.
type MismatchError struct {
	Position events.Position // of the entry
	Image    events.ImageID
	Object   uint64 // index; meaningless when Record is set
	Record   bool   // the image itself, or its name, was meant and not an object
	Want     events.Position
	Have     events.Position
}

// Error implements error.
func (e *MismatchError) Error() string {
	what := fmt.Sprintf("object %d of image %d", e.Object, e.Image)
	if e.Record {
		what = fmt.Sprintf("image %d", e.Image)
	}
	return fmt.Sprintf("entry %v: %s has version %v where %v was expected", e.Position, what, e.Have, e.Want)
}

// As offers the error as a [*fault.Error] with the code [fault.VersionMismatch].
func (e *MismatchError) As(target any) bool { return asFault(target, fault.VersionMismatch, e) }

func asFault(target any, code fault.Code, err error) bool {
	f, ok := target.(**fault.Error)
	if ok {
		*f = fault.New(code, "%w", err)
	}
	return ok
}

// corrupt returns an error for bytes, on disk or in a journal, that cannot be.
func corrupt(format string, args ...any) error { return fault.New(fault.Corrupt, format, args...) }

// refusal reports whether an error says that an entry must not be applied, rather
// than that applying it went wrong.
func refusal(err error) bool {
	var mismatch *MismatchError
	return errors.As(err, &mismatch) || fault.CodeOf(err) == fault.Corrupt
}
