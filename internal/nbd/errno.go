package nbd

import (
	"context"
	"errors"
	"strings"

	"tidemark/internal/fault"
	"tidemark/internal/nbd/wire"
)

// Errno returns the protocol's number for a device's error: that of a [wire.Errno] in
// its chain, else by fault code. A context that was cancelled means that the server
// ends, so ESHUTDOWN; what is not known is EIO.
func Errno(err error) wire.Errno {
	var errno wire.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno) && errno != 0:
		return errno
	case errors.Is(err, context.Canceled):
		return wire.ESHUTDOWN
	}
	switch fault.CodeOf(err) {
	case fault.NoSpace:
		return wire.ENOSPC
	case fault.ReadOnly, fault.NotPrimary, fault.Denied:
		return wire.EPERM
	case fault.Fenced, fault.NotReady:
		return wire.ESHUTDOWN
	case fault.Usage:
		return wire.EINVAL
	}
	return wire.EIO
}

// refusal returns the answer of the handshake for an error of [Exports].
func refusal(err error) wire.OptReply {
	if errors.Is(err, context.Canceled) {
		return wire.RepErrShutdown
	}
	switch fault.CodeOf(err) {
	case fault.NotFound:
		return wire.RepErrUnknown
	case fault.NotReady, fault.Fenced, fault.Busy, fault.Timeout:
		return wire.RepErrShutdown
	}
	return wire.RepErrPolicy
}

// textMax bounds the text of an error that a client is shown, in bytes.
const textMax = 512

// explain returns the text that a client is shown for an error. Only a [*fault.Error]
// was written for people outside; what else went wrong is for the log.
func explain(err error, otherwise string) string {
	var e *fault.Error
	text := otherwise
	if errors.As(err, &e) {
		text = e.Message
	}
	if len(text) > textMax {
		text = text[:textMax]
	}
	return strings.ToValidUTF8(text, "")
}
