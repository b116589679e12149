package main

import (
	"context"
)

// service is what all services have in common.
type service interface {
	Run(ctx context.Context) error
	// Ready is closed when the service serves.
	Ready() <-chan struct{}
}

type namedService struct {
	name string
	service
}

// assemble makes the services that the process was asked to run.
func (p *process) assemble(context.Context) error {
	return nil
}
