package main

import (
	"context"
	"slices"

	"tidemark/internal/fault"
	"tidemark/internal/nbd"
)

// exportsMux serves the images of several services: the one that owns a directory is
// asked before the one that follows it.
type exportsMux []nbd.Exports

// List implements [nbd.Exports].
func (m exportsMux) List(ctx context.Context) ([]string, error) {
	var all []string
	for _, e := range m {
		names, err := e.List(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Open implements [nbd.Exports].
func (m exportsMux) Open(ctx context.Context, name string) (nbd.Device, error) {
	err := error(fault.New(fault.NotFound, "there is no export %q", name))
	for _, e := range m {
		var device nbd.Device
		if device, err = e.Open(ctx, name); fault.CodeOf(err) != fault.NotFound {
			return device, err
		}
	}
	return nil, err
}
