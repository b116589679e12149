// Package nbdtest has exports in memory, for tests of whatever speaks NBD.
package nbdtest

import (
	"context"
	"slices"
	"sync"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
)

// Exports serves disks by name. It implements [nbd.Exports].
type Exports struct {
	mu    sync.Mutex // guards disks
	disks map[string]*Disk
}

// NewExports returns exports of the given disks.
func NewExports(disks ...*Disk) *Exports {
	e := &Exports{disks: make(map[string]*Disk)}
	for _, d := range disks {
		e.disks[d.info.Name] = d
	}
	return e
}

// List returns the disks' names.
func (e *Exports) List(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := make([]string, 0, len(e.disks))
	for name := range e.disks {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Open returns a handle on a disk; [fault.NotFound] if there is none.
func (e *Exports) Open(_ context.Context, name string) (nbd.Device, error) {
	e.mu.Lock()
	d := e.disks[name]
	e.mu.Unlock()
	if d == nil {
		return nil, fault.New(fault.NotFound, "there is no disk %q", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return nil, d.refuse
	}
	d.open++
	return &handle{Disk: d}, nil
}
