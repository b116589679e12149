package bus

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
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
