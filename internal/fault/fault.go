// Package fault is the one table of ways in which a request can fail: each has a code
// that JSON carries, and an exit code for the command line. Package nbd gives the same
// errors a number of its protocol.
//
// An error that crosses a boundary (the command line, the bus, NBD) is an [*Error];
// inside, errors are wrapped as usual and [CodeOf] finds the one that decides.
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Code names a kind of failure. The list is part of the interface; it only grows.
type Code string

// The codes.
const (
	Usage           Code = "usage"
	NotFound        Code = "not_found"
	Exists          Code = "exists"
	Busy            Code = "busy"
	ReadOnly        Code = "read_only"
	NotPrimary      Code = "not_primary"
	NotReady        Code = "not_ready"
	SplitBrain      Code = "split_brain"
	VersionMismatch Code = "version_mismatch"
	Fenced          Code = "fenced"
	NoSpace         Code = "no_space"
	Denied          Code = "denied"
	Timeout         Code = "timeout"
	Corrupt         Code = "corrupt"
	Internal        Code = "internal"
)

// Error is a failure with a code. Its message is one line for a person: what was wrong
// with what, and what to do where that is known.
type Error struct {
	Code    Code
	Message string
	cause   error
}

// New returns an error with a code; format and args are those of [fmt.Errorf], and a
// wrapped cause stays reachable.
func New(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: err.Error()}
	switch err := err.(type) { //nolint:errorlint // what was wrapped just above
	case interface{ Unwrap() error }:
		e.cause = err.Unwrap()
	case interface{ Unwrap() []error }:
		e.cause = errors.Join(err.Unwrap()...)
	}
	return e
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, if any.
func (e *Error) Unwrap() error { return e.cause }

// CodeOf returns the code of the outermost [*Error] in err's chain; a deadline is a
// [Timeout], anything else [Internal]. It returns "" for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	}
	return Internal
}

// ExitCode returns the exit code of the command line for an error: 0 done, 1 failed,
// 2 wrong usage, 3 not found, 4 already exists, 5 refused in this state, 6 timed out.
func ExitCode(err error) int {
	switch CodeOf(err) {
	case "":
		return 0
	case Usage:
		return 2
	case NotFound:
		return 3
	case Exists:
		return 4
	case Busy, ReadOnly, NotPrimary, NotReady, SplitBrain, VersionMismatch, Fenced, Denied:
		return 5
	case Timeout:
		return 6
	}
	return 1
}
