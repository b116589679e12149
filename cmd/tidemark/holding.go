package main

import (
	"context"
	"slices"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/services/journal"
)

const (
	// holdingTime bounds how long a process waits for its directories before it says
	// that it is ready: one that cannot be opened must not hide the others.
	holdingTime = 20 * time.Second
	holdingPoll = 20 * time.Millisecond
	// holdingAsk bounds one question: it may go to a process that has just died.
	holdingAsk = time.Second
)

// awaitDirectories returns when the directories that this node had before it was
// stopped are served again, or have failed. Without a policy service at the site nobody
// hands any out, and there is nothing to wait for.
func (p *process) awaitDirectories(ctx context.Context) {
	if !slices.Contains(p.cfg.services, serviceJournal) && !slices.Contains(p.cfg.services, serviceReplayer) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, holdingTime)
	defer cancel()
	for {
		list, err := api.CallParts[[]api.Directory](ctx, p.bus.Conn(), api.DirectoryList, api.PoolFilter{})
		if err != nil {
			return
		}
		list = slices.DeleteFunc(list, func(d api.Directory) bool { return p.settled(ctx, d) })
		if len(list) == 0 {
			return
		}
		if err := pause(ctx, holdingPoll); err != nil {
			p.log.Warn("directories are not served yet", "count", len(list), "first", list[0].Name)
			return
		}
	}
}

// settled reports whether nothing more is to be expected of a directory at this node.
func (p *process) settled(ctx context.Context, d api.Directory) bool {
	elsewhere := d.Node != "" && d.Node != p.node.Name
	if elsewhere || d.Error != "" || !slices.Contains(p.cfg.services, events.ServiceOf(d.Role)) {
		return true
	}
	if d.State != "mapped" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, holdingAsk)
	defer cancel()
	status, err := api.Call[api.Status](ctx, p.bus.Conn(), api.HolderSubject(d.ID, api.DirectoryStatus), api.Nothing{})
	if err != nil {
		return false
	}
	// A replica is served in any state. That of one that follows has the name of an owner's
	// that recovers.
	return d.Role == events.Slave || status.State != string(journal.Opening) && status.State != string(journal.Replaying)
}
