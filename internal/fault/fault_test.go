package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"tidemark/internal/fault"
)

// TestCodes is the table of codes and exit codes as the interface gives it.
func TestCodes(t *testing.T) {
	codes := map[string]int{
		"usage": 2, "not_found": 3, "exists": 4, "busy": 5, "read_only": 5, "not_primary": 5, "not_ready": 5,
		"split_brain": 5, "version_mismatch": 5, "fenced": 5, "no_space": 1, "denied": 5, "timeout": 6, "corrupt": 1, "internal": 1,
	}
	all := []fault.Code{
		fault.Usage, fault.NotFound, fault.Exists, fault.Busy, fault.ReadOnly, fault.NotPrimary, fault.NotReady, fault.SplitBrain,
		fault.VersionMismatch, fault.Fenced, fault.NoSpace, fault.Denied, fault.Timeout, fault.Corrupt, fault.Internal,
	}
	if len(all) != len(codes) {
		t.Errorf("%d codes, the interface has %d", len(all), len(codes))
	}
	for _, code := range all {
		want, ok := codes[string(code)]
		err := fmt.Errorf("do it: %w", fault.New(code, "it is wrong"))
		if !ok || fault.CodeOf(err) != code || fault.ExitCode(err) != want {
			t.Errorf("%s: code %s, exit %d, want %d", code, fault.CodeOf(err), fault.ExitCode(err), want)
		}
	}
}

func TestCodeOfOthers(t *testing.T) {
	inner := fault.New(fault.NotFound, "no image")
	cases := []struct {
		name string
		err  error
		code fault.Code
		exit int
	}{
		{"nothing", nil, "", 0},
		{"plain", io.EOF, fault.Internal, 1},
		{"deadline", fmt.Errorf("ask: %w", context.DeadlineExceeded), fault.Timeout, 6},
		{"canceled", context.Canceled, fault.Internal, 1},
		{"outermost decides", fault.New(fault.Busy, "create: %w", inner), fault.Busy, 5},
		{"own code before a deadline", fault.New(fault.Denied, "no: %w", context.DeadlineExceeded), fault.Denied, 5},
		{"joined", errors.Join(io.EOF, inner), fault.NotFound, 3},
		{"unknown code", fault.New("later", "x"), "later", 1},
	}
	for _, c := range cases {
		if fault.CodeOf(c.err) != c.code || fault.ExitCode(c.err) != c.exit {
			t.Errorf("%s: %q, exit %d", c.name, fault.CodeOf(c.err), fault.ExitCode(c.err))
		}
	}
}

func TestCausesStayReachable(t *testing.T) {
	one := fault.New(fault.Busy, "look: %w", io.EOF)
	if !errors.Is(one, io.EOF) || one.Error() != "look: EOF" {
		t.Errorf("one cause: %v", one)
	}
	two := fault.New(fault.Busy, "look: %w: %w", io.EOF, io.ErrClosedPipe)
	if !errors.Is(two, io.EOF) || !errors.Is(two, io.ErrClosedPipe) {
		t.Errorf("two causes: %v", two)
	}
	if none := fault.New(fault.Busy, "look: %v", io.EOF); errors.Unwrap(none) != nil {
		t.Errorf("no cause: %v", none)
	}
}
