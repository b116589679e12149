package bus

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"tidemark/events"
	"tidemark/internal/fault"
)

var (
	// ErrOvertaken is returned when a stream's last message is not the expected one:
	// another writer was faster, or owns the log.
	ErrOvertaken = errors.New("another writer was faster")
	// ErrRolledBack is returned when a stream ends before the expected message: it lost
	// messages that it had acknowledged.
	ErrRolledBack = errors.New("the log has lost messages that it had acknowledged")
	// ErrFull is returned when a stream, or the server's store, has no room.
	ErrFull = errors.New("the log is full")
	// ErrNotFound is returned for a stream or message that is not there.
	ErrNotFound = errors.New("not in the log")
	// ErrUndecided is returned when no answer came and the message could not be looked
	// up: it may or may not have been stored.
	ErrUndecided = errors.New("it is undecided whether the log holds the message")
	// ErrGap is matched by [*GapError].
	ErrGap = errors.New("messages are missing in the log")
)

// GapError says that a stream lacks messages between two that it holds.
type GapError struct {
	Stream    string
	Want, Got uint64 // sequences
}

// Error implements error.
func (e *GapError) Error() string {
	return fmt.Sprintf("stream %s goes on at message %d where %d was expected", e.Stream, e.Got, e.Want)
}

// Is matches [ErrGap].
func (e *GapError) Is(target error) bool { return target == ErrGap }

// Codes of the server that nats.go has no name for, or that mean the same to us.
const (
	codeWrongLastSequence     = 10071
	codeWrongLastSequenceBusy = 10164 // replicated streams
	codeWrongLastMessage      = 10070 // another writer's message is the last one
	codeStoreFull             = 10077 // the stream's byte limit
	codeResourcesExceeded     = 10023 // the server's limit
	codeStorageExceeded       = 10047
)

func publishError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case codeWrongLastSequence, codeWrongLastSequenceBusy, codeWrongLastMessage:
		return fmt.Errorf("%w: %w", ErrOvertaken, err)
	case codeStoreFull, codeResourcesExceeded, codeStorageExceeded:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// boundError says why a stream could not be given its limit. A server of its own (not the
// embedded one) sets the limits of all its streams aside, and refuses what is more than it has.
func boundError(what string, s events.Stream, err error) error {
	if errors.Is(publishError(err), ErrFull) {
		return fault.New(fault.NoSpace, "%s stream %s: the NATS server has no room left for its %d MiB: raise max_file_store in its configuration, or lower --journal-max-bytes: %w",
			what, s.Name, s.MaxBytes>>20, publishError(err))
	}
	return fmt.Errorf("%s stream %s: %w", what, s.Name, err)
}
