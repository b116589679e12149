package e2e_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"tidemark/internal/nbdclient"
)

// access is one read or write of one register: a few bytes of an image.
type access struct {
	register int
	write    bool
	value    uint64 // written; 0 is zeroes
}

// answer is what came back of an access.
type answer struct {
	known bool   // it was answered; a write that was not may have taken effect, or not
	value uint64 // read
}

// registers is the sequential specification: each register holds what was written last.
func registers() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Partition: byRegister,
		Init:      func() []any { return []any{uint64(0)} },
		Step: func(state, input, output any) []any {
			in, out := input.(access), output.(answer)
			switch {
			case in.write && out.known:
				return []any{in.value}
			case in.write:
				return []any{in.value, state}
			case out.value == state:
				return []any{state}
			}
			return nil
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
	return model.ToModel()
}

func byRegister(history []porcupine.Operation) [][]porcupine.Operation {
	parts := map[int][]porcupine.Operation{}
	for _, op := range history {
		register := op.Input.(access).register
		parts[register] = append(parts[register], op)
	}
	var out [][]porcupine.Operation
	for _, part := range parts {
		out = append(out, part)
	}
	return out
}

// history collects what several clients did. Times are from its beginning, in
// nanoseconds.
type history struct {
	began time.Time
	mu    sync.Mutex
	done  []porcupine.Operation
	open  []porcupine.Operation // writes that nobody answered, before the crash was over
	next  uint64                // the next value to be written
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

// value returns one that was never written before.
func (h *history) value() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	return h.next
}

func (h *history) add(client int, in access, out answer, call int64) {
	op := porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: h.now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case out.known:
		h.done = append(h.done, op)
	case in.write:
		h.open = append(h.open, op)
	}
}

// crashed notes that what was under way has taken effect by now, or never will.
func (h *history) crashed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.open {
		op.Return = time.Since(h.began).Nanoseconds()
		h.done = append(h.done, op)
	}
	h.open = nil
}

const (
	registerBytes = 4096
	// registerStart makes the registers begin and end in the middle of blocks, so that they
	// share them, and one of them in the middle of an object's boundary.
	registerStart = 1<<20 - 6*registerBytes - 1536
	registerCount = 8
)

func registerOffset(register int) uint64 { return registerStart + uint64(register)*registerBytes }

var errMixed = errors.New("a register holds parts of several writes")

// fillRegister writes a value over a whole register.
func fillRegister(p []byte, value uint64) {
	for i := 0; i < len(p); i += 8 {
		binary.BigEndian.PutUint64(p[i:], value)
	}
}

// readRegister returns the one value that a register holds.
func readRegister(p []byte) (uint64, error) {
	value := binary.BigEndian.Uint64(p)
	for i := 0; i < len(p); i += 8 {
		if other := binary.BigEndian.Uint64(p[i:]); other != value {
			return 0, fmt.Errorf("%w: %d at byte 0 and %d at byte %d", errMixed, value, other, i)
		}
	}
	return value, nil
}

// write writes one value to n neighbouring registers in one request.
func (h *history) write(ctx context.Context, client int, conn *nbdclient.Conn, first, n int) error {
	p := make([]byte, n*registerBytes)
	value := h.value()
	fillRegister(p, value)
	call := h.now()
	err := conn.WriteAt(ctx, p, registerOffset(first), value%16 == 0)
	for r := first; r < first+n; r++ {
		h.add(client, access{register: r, write: true, value: value}, answer{known: err == nil}, call)
	}
	return err
}

// clear makes a register zeroes.
func (h *history) clear(ctx context.Context, client int, conn *nbdclient.Conn, register int, trim bool) error {
	do := conn.Zero
	if trim {
		do = conn.Trim
	}
	call := h.now()
	err := do(ctx, registerOffset(register), registerBytes, false)
	h.add(client, access{register: register, write: true}, answer{known: err == nil}, call)
	return err
}

// read reads one register.
func (h *history) read(ctx context.Context, client int, conn *nbdclient.Conn, register int) error {
	p := make([]byte, registerBytes)
	call := h.now()
	if err := conn.ReadAt(ctx, p, registerOffset(register)); err != nil {
		return err
	}
	value, err := readRegister(p)
	if err != nil {
		return err
	}
	h.add(client, access{register: register}, answer{known: true, value: value}, call)
	return nil
}
