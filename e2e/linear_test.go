package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"tidemark/internal/nbdclient"
)

const (
	linearClients = 6
	checkTime     = 60 * time.Second
)

// TestLinearizable lets several connections read, write, discard and zero the same few
// registers at the same time, kills the site under them and goes on, and has the whole
// history judged: every read of a register returns what was written last, in one order
// that agrees with the times of all requests and answers; also over the kills, at each of
// which a write that was not answered took effect or never will.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	s := startSite(t, "east")
	s.createImage("vms/linear/a", "2MiB", "--object-size", "1MiB")
	began, rounds := time.Now(), 0
	for long := longRun(t); rounds < 2 || time.Since(began) < long; rounds++ {
		h := &history{began: time.Now(), next: uint64(rounds) << 32}
		settleRegisters(t, s, h)
		for range 3 {
			race(t, s, h)
			s.kill()
			s.start()
			h.crashed()
		}
		readAll(t, s, h)
		result, info := porcupine.CheckOperationsVerbose(registers(), h.done, checkTime)
		if result != porcupine.Ok {
			at := t.ArtifactDir() + "/history.html"
			t.Fatalf("round %d, %d accesses: %s (drawn in %s: %v)", rounds, len(h.done), result, at, porcupine.VisualizePath(registers(), info, at))
		}
		t.Logf("round %d: %d accesses are linearizable", rounds, len(h.done))
	}
}

// settleRegisters makes all registers zeroes before a history begins.
func settleRegisters(t *testing.T, s *site, h *history) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := s.dial("vms/linear/a")
	defer hangUp(conn)
	for r := range registerCount {
		if err := h.clear(ctx, 0, conn, r, true); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t *testing.T, s *site, h *history) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := s.dial("vms/linear/a")
	defer hangUp(conn)
	for r := range registerCount {
		if err := h.read(ctx, 0, conn, r); err != nil {
			t.Fatal(err)
		}
	}
}

// race lets the clients work until some accesses were done, and kills the site under them.
func race(t *testing.T, s *site, h *history) {
	t.Helper()
	const accesses = 500
	var working sync.WaitGroup
	var done atomic.Int64
	for client := range linearClients {
		conn := s.dial("vms/linear/a")
		working.Go(func() {
			defer hangUp(conn)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for {
				err := h.anything(ctx, client, conn)
				if errors.Is(err, errMixed) {
					t.Error(err)
				}
				if err != nil {
					return
				}
				if done.Add(1) == accesses {
					s.process.kill()
				}
			}
		})
	}
	working.Wait()
}

// anything is one random access.
func (h *history) anything(ctx context.Context, client int, conn *nbdclient.Conn) error {
	register := rand.IntN(registerCount)
	switch rand.IntN(10) {
	case 0:
		return h.clear(ctx, client, conn, register, true)
	case 1:
		return h.clear(ctx, client, conn, register, false)
	case 2, 3, 4:
		return h.write(ctx, client, conn, register, 1)
	case 5:
		first := rand.IntN(registerCount - 1)
		return h.write(ctx, client, conn, first, 2+rand.IntN(registerCount-first-1))
	}
	return h.read(ctx, client, conn, register)
}

// TestHistoriesThatAreNotLinearizable checks the check.
func TestHistoriesThatAreNotLinearizable(t *testing.T) {
	write := func(value uint64, known bool, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: access{write: true, value: value}, Output: answer{known: known}, Call: call, Return: ret}
	}
	read := func(value uint64, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: access{}, Output: answer{known: true, value: value}, Call: call, Return: ret}
	}
	for name, c := range map[string]struct {
		sound   bool
		history []porcupine.Operation
	}{
		"what was written is read":               {true, []porcupine.Operation{write(1, true, 0, 1), read(1, 2, 3)}},
		"either of two at once":                  {true, []porcupine.Operation{write(1, true, 0, 5), write(2, true, 0, 5), read(1, 6, 7)}},
		"an unanswered write is there":           {true, []porcupine.Operation{write(1, true, 0, 1), write(2, false, 2, 5), read(2, 6, 7)}},
		"an unanswered write is not there":       {true, []porcupine.Operation{write(1, true, 0, 1), write(2, false, 2, 5), read(1, 6, 7)}},
		"a write vanished":                       {false, []porcupine.Operation{write(1, true, 0, 1), write(2, true, 2, 3), read(1, 4, 5)}},
		"a read of what nobody wrote":            {false, []porcupine.Operation{write(1, true, 0, 1), read(3, 2, 3)}},
		"back and forth":                         {false, []porcupine.Operation{write(1, true, 0, 9), write(2, true, 0, 9), read(1, 10, 11), read(2, 12, 13)}},
		"an unanswered write comes late":         {false, []porcupine.Operation{write(1, false, 0, 5), read(0, 6, 7), read(1, 8, 9)}},
		"an unanswered write came, then is gone": {false, []porcupine.Operation{write(1, false, 0, 5), read(1, 6, 7), read(0, 8, 9)}},
		"zeroes that nobody asked for":           {false, []porcupine.Operation{write(1, true, 0, 1), read(0, 2, 3)}},
	} {
		if got := porcupine.CheckOperations(registers(), c.history); got != c.sound {
			t.Errorf("%s: linearizable is %v", name, got)
		}
	}
	if _, err := readRegister(append(make([]byte, 8), 1, 1, 1, 1, 1, 1, 1, 1)); !errors.Is(err, errMixed) {
		t.Errorf("a torn register: %v", err)
	}
}
