package policy_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// attempt is a command about a directory.
type attempt func(w *world, name events.DirectoryName) error

func attempting[R any](subject string, request func(events.DirectoryName) any) attempt {
	return func(w *world, name events.DirectoryName) error {
		_, err := try[R](w, subject, request(name))
		return err
	}
}

func named(name events.DirectoryName) any { return name }

// attempts are the commands that contend.
func attempts() map[string]attempt {
	promote := func(name events.DirectoryName) any { return api.Promote{DirectoryName: name} }
	return map[string]attempt{
		"add": attempting[api.Directory](api.MirrorAdd, named), "create": attempting[api.Directory](api.DirectoryCreate, named),
		"remove": attempting[api.Nothing](api.MirrorRemove, named), "give up": attempting[api.Nothing](api.DirectoryRemove, named),
		"promote": attempting[api.Directory](api.MirrorPromote, promote), "demote": attempting[api.Directory](api.MirrorDemote, named),
	}
}

// Two commands at once on one directory: one wins, and the other is told what it met.
func TestContention(t *testing.T) {
	for name, policies := range map[string]int{"one policy": 1, "two policies": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := startAll(t, "west")
			for range policies - 1 {
				w.startPolicy()
			}
			w.mirroredPool("vms")
			for i, c := range []struct {
				before, first, second string
				told                  []fault.Code // of who does not win
				both                  bool         // may win, one after the other
			}{
				{"", "add", "add", []fault.Code{fault.Exists}, false},
				{"", "add", "create", []fault.Code{fault.Exists}, false},
				{"add", "remove", "remove", []fault.Code{fault.Busy, fault.NotFound}, false},
				{"add", "promote", "promote", []fault.Code{fault.Busy}, false},
				{"create", "demote", "demote", []fault.Code{fault.NotPrimary, fault.Busy}, false},
				{"add", "remove", "promote", []fault.Code{fault.Busy, fault.NotFound}, true},
				{"add", "remove", "add", []fault.Code{fault.Busy, fault.Exists}, true},
			} {
				for round := range 5 {
					w.contend(dir("vms", fmt.Sprintf("/c%d-%d", i, round)), c.before, c.first, c.second, c.told, c.both)
				}
			}
		})
	}
}

// contend runs two commands at a time, and asserts that one wins and how the other fails.
func (w *world) contend(name events.DirectoryName, before, first, second string, told []fault.Code, both bool) {
	w.t.Helper()
	if before != "" {
		if err := attempts()[before](w, name); err != nil {
			w.t.Fatal(err)
		}
	}
	var errs [2]error
	var running sync.WaitGroup
	for i, what := range []string{first, second} {
		running.Go(func() { errs[i] = attempts()[what](w, name) })
	}
	running.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !slices.Contains(told, fault.CodeOf(err)):
			w.t.Errorf("%s: %s and %s at once: %v", name, first, second, err)
		}
	}
	if won == 0 || won == 2 && !both {
		w.t.Errorf("%s: %s and %s at once: %v, %v", name, first, second, errs[0], errs[1])
	}
}

// directories 45: what is being removed is busy, then free; its epoch goes on growing, so that
// nothing that was asked of the old one is taken for the new one.
func TestEpochOutlivesRemoval(t *testing.T) {
	w, h := startAll(t, "west")
	w.mirroredPool("vms")
	name := dir("vms", "/db")
	var epoch uint64
	for range 3 {
		d := call[api.Directory](w, api.MirrorAdd, name)
		d = w.awaitState(name, "mapped", d.Role)
		if d.Epoch <= epoch {
			t.Errorf("the epoch is %d, was %d", d.Epoch, epoch)
		}
		epoch = d.Epoch
		busy, removed := make(gate), make(chan error, 1)
		h.set(nil, busy.release)
		go func() { removed <- attempts()["remove"](w, name) }()
		w.awaitState(name, "unmapping", events.Slave)
		w.refused(fault.Busy, api.MirrorAdd, name, "is being removed", "try again")
		close(busy)
		if err := <-removed; err != nil {
			t.Error(err)
		}
	}
	// So it does over a restart of policy, and over the pool itself.
	call[api.Nothing](w, api.PoolRemove, api.Pool{Pool: "vms"})
	call[api.Pool](w, api.PoolCreate, api.Pool{Pool: "vms"})
	w.startPolicy()
	if d := call[api.Directory](w, api.DirectoryCreate, name); d.Epoch <= epoch {
		t.Errorf("the epoch is %d, was %d", d.Epoch, epoch)
	}
}
