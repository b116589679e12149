package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/site"
)

// rollCallTime is how long a process that starts listens for another of its name.
const rollCallTime = 500 * time.Millisecond

// claimName refuses a node name under which another data folder holds directories: the
// site takes the newest process of a name for the node, and would hand all that the
// other one holds to this one, whose folder has nothing of it. The process that embeds
// NATS has nobody to ask, and one that holds no directories takes none away.
func (p *process) claimName(ctx context.Context) error {
	var err error
	if p.dataID, err = site.DataID(p.cfg.data); err != nil {
		return err
	}
	if p.nats != nil || !p.cfg.serves(serviceJournal) && !p.cfg.serves(serviceReplayer) {
		return nil
	}
	nc := p.bus.Conn()
	sub, err := nc.SubscribeSync(events.HeartbeatsSubject(p.cfg.node))
	if err != nil {
		return fmt.Errorf("listen for the node %q: %w", p.cfg.node, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection
	if err := nc.Publish(events.RollCallSubject, nil); err != nil {
		return fmt.Errorf("call the roll: %w", err)
	}
	listening, cancel := context.WithTimeout(ctx, rollCallTime)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(listening)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("listen for the node %q: %w", p.cfg.node, err)
		case p.isTwin(m):
			return fault.New(fault.Busy, "node %q of this site runs with another data folder: choose another name with --node", p.cfg.node)
		}
	}
}

// isTwin reports whether a heartbeat comes from this node's name and another folder. One
// that is leaving no longer counts, and an older program does not name its folder.
func (p *process) isTwin(m *nats.Msg) bool {
	fact, err := events.Unmarshal(m.Data)
	h, ok := fact.(*events.Heartbeat)
	return err == nil && ok && h.Node == p.cfg.node && !h.Leaving && h.Data != "" && h.Data != p.dataID
}
