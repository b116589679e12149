package main

import (
	"context"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/overview"
)

// lossTime bounds the question what a forced promotion loses, which must not hold it up.
const lossTime = 500 * time.Millisecond

// loss is what a forced promotion gives up: entries that the former primary had logged
// when it was last heard, and that have not arrived here.
type loss struct {
	Entries uint64  `json:"entries"`
	Bytes   uint64  `json:"bytes"`
	Seconds float64 `json:"seconds"` // from the newest entry here to the newest there
	Heard   float64 `json:"heard_seconds_ago"`
	// Known is false if nothing was heard of a primary, or nobody here could be asked.
	Known bool   `json:"known"`
	Site  string `json:"site,omitempty"` // the former primary
}

func (l loss) String() string {
	if !l.Known {
		return "forced: gives up what the other site has logged and this one has not; how much is not known here"
	}
	return fmt.Sprintf("forced: gives up %d entries (%s, %s) that site %s had logged when last heard %s ago",
		l.Entries, formatSize(l.Bytes), overview.Seconds(l.Seconds), l.Site, overview.Seconds(l.Heard))
}

// lossOf asks the holder of a replica how far it is behind what it last heard of its
// primary; nil if the directory is no replica: the promotion says what is wrong then.
func (s *client) lossOf(ctx context.Context, name events.DirectoryName) *loss {
	ctx, cancel := context.WithTimeout(ctx, lossTime)
	defer cancel()
	d, err := call[api.Directory](ctx, s, api.DirectoryResolve, name)
	for err == nil && d.Role != events.Slave && d.State != "mapped" { // a promotion that was refused is being undone
		if pause(ctx, retryWait) != nil {
			return &loss{}
		}
		d, err = call[api.Directory](ctx, s, api.DirectoryResolve, name)
	}
	if err != nil || d.Role != events.Slave {
		return nil
	}
	status, err := hold[api.Status](ctx, s, d, api.DirectoryStatus, api.Nothing{})
	if err != nil || status.Ahead == nil || !status.Ahead.Known {
		return &loss{}
	}
	ahead := status.Ahead
	return &loss{
		Entries: ahead.Entries, Bytes: ahead.Bytes, Seconds: ahead.Seconds,
		Heard: max(0, time.Since(ahead.Heard.Time()).Seconds()), Site: ahead.Site, Known: true,
	}
}
