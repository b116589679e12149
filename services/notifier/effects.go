package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
)

const (
	// requestTime is how long one delivery waits: a node that works longer answers a
	// later one.
	requestTime     = 10 * time.Second
	messageBytesMax = 1 << 10
)

// listen subscribes to heartbeats and calls the roll.
func (s *Service) listen() (unsubscribe func(), err error) {
	nc := s.bus.Conn()
	sub, err := nc.Subscribe("tidemark.heartbeat.*.*", s.heard)
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats: %w", err)
	}
	unsubscribe = func() { _ = sub.Unsubscribe() } // fails only with the connection
	if err = nc.Flush(); err == nil {
		err = nc.Publish(events.RollCallSubject, nil)
	}
	if err != nil {
		unsubscribe()
		return nil, fmt.Errorf("call the roll: %w", err)
	}
	return unsubscribe, nil
}

func (s *Service) heard(m *nats.Msg) {
	fact, err := events.Unmarshal(m.Data)
	h, ok := fact.(*events.Heartbeat)
	if err != nil || !ok || !plausible(h) || m.Subject != h.Subject() {
		s.metrics.malformed.Inc()
		s.log.Debug("heartbeat ignored", "subject", m.Subject, "error", err)
		return
	}
	s.mu.Lock()
	s.roster.Heard(s.state, h, time.Now())
	known := s.state.Instances[Key{h.Node, h.Service}]
	s.mu.Unlock()
	if known.Alive && known.Incarnation == h.Incarnation && !h.Leaving {
		return
	}
	select {
	case s.beat <- struct{}{}:
	default: // it is awake
	}
}

func plausible(h *events.Heartbeat) bool {
	for _, name := range []string{h.Node, h.Service, h.Incarnation} {
		if events.CheckName(name) != nil {
			return false
		}
	}
	return true
}

// publishLiveness brings the log up to what the roster knows.
func (s *Service) publishLiveness(ctx context.Context) error {
	s.mu.Lock()
	if !s.bus.Conn().IsConnected() {
		s.roster.Refresh(time.Now())
	}
	s.mu.Unlock()
	return s.commit(ctx, events.StreamInstances, func() events.Fact {
		facts := s.roster.Decide(s.state, time.Now())
		s.metrics.instances.Set(float64(s.alive()))
		if len(facts) == 0 {
			return nil
		}
		switch f := facts[0].(type) {
		case *events.InstanceAdded:
			s.log.Info("instance added", "node", f.Node, "of", f.Service, "incarnation", f.Incarnation)
		case *events.InstanceRemoved:
			level := slog.LevelWarn
			if f.Reason == reasonLeft {
				level = slog.LevelInfo
			}
			s.log.Log(ctx, level, "instance removed", "node", f.Node, "of", f.Service, "incarnation", f.Incarnation, "reason", f.Reason)
		}
		return facts[0]
	})
}

func (s *Service) alive() int {
	n := 0
	for _, i := range s.state.Instances {
		if i.Alive {
			n++
		}
	}
	return n
}

// needCourier returns the directories that have something to deliver and nobody who does.
func (s *Service) needCourier() []events.DirectoryID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var need []events.DirectoryID
	for d := range s.fresh {
		_, busy := s.couriers[d]
		if _, waits := s.state.Next(d); waits && !busy {
			s.couriers[d] = courier{}
			need = append(need, d)
		}
	}
	clear(s.fresh)
	slices.Sort(need)
	return need
}

// nextFor returns what a courier delivers next. The courier ends with false: under the
// same lock it is struck off, so that no request falls between two couriers.
func (s *Service) nextFor(d events.DirectoryID) (Request, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics.waiting.Set(float64(len(s.state.Waiting)))
	r, ok := s.state.Next(d)
	if !ok {
		delete(s.couriers, d)
	}
	return r, ok
}

// deliver sends a request until the node answers or its incarnation is gone, and returns
// the acknowledgement to publish; nil when ctx ended.
func (s *Service) deliver(ctx context.Context, r Request) events.Fact {
	a := r.Assignment
	log := s.log.With("directory", a.Directory, "operation", a.Operation, "node", a.Node)
	body, err := events.Marshal(r.Fact)
	if err != nil {
		return refusal(r, fault.New(fault.Internal, "%w", err))
	}
	var rejected uint
	for attempt := 1; ctx.Err() == nil; attempt++ {
		gone, err := s.gone(ctx, a)
		if gone {
			log.Warn("request given up", "reason", "its instance is gone")
			return refusal(r, fault.New(fault.Fenced, "%s of node %s (incarnation %s) is gone",
				events.ServiceOf(a.Role), a.Node, a.Incarnation))
		}
		if err == nil {
			var ack events.Fact
			if ack, err = s.request(ctx, r, body); err == nil {
				return ack
			}
		}
		if ctx.Err() != nil {
			break
		}
		if errors.Is(err, errAnswer) {
			rejected++
			s.noteRejected(ctx, r, rejected, err)
		}
		s.metrics.retries.Inc()
		log.Debug("request not answered", "attempt", attempt, "error", err)
		s.pauseWhileAlive(ctx, a, retryAfter(attempt))
	}
	return nil
}

// gone asks the log whether an incarnation lives no more. The state may lag behind the
// log, so a "no" is believed only after catching up.
func (s *Service) gone(ctx context.Context, a events.Assignment) (bool, error) {
	alive := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state.Alive(a)
	}
	if alive() {
		return false, nil
	}
	if err := s.catchUp(ctx, events.StreamInstances); err != nil {
		return false, err
	}
	return !alive(), nil
}

// request makes one attempt, which ends early when the instance is found gone.
func (s *Service) request(ctx context.Context, r Request, body []byte) (events.Fact, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = s.await(ctx, func() bool { return !s.state.Alive(r.Assignment) })
		cancel()
	}()
	defer func() { cancel(); <-watched }()

	s.metrics.sent.Inc()
	subject := events.ControlSubject(r.Assignment.Node, events.ServiceOf(r.Assignment.Role))
	m, err := s.bus.Conn().RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", subject, err)
	}
	return s.answer(r, m.Data)
}

// answer checks a node's answer. One that does not repeat the request's assignment is as
// good as none: the agent of another incarnation, which may still listen under the same
// name, answers with its own.
func (s *Service) answer(r Request, body []byte) (events.Fact, error) {
	fact, err := events.Unmarshal(body)
	if err != nil {
		s.metrics.malformed.Inc()
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	now := events.InstantOf(time.Now())
	var matches bool
	switch f := fact.(type) {
	case *events.AcquireAcknowledged:
		_, asked := r.Fact.(*events.AcquireRequested)
		matches = asked && f.Assignment == r.Assignment
		f.At, f.Message = now, shorten(f.Message)
	case *events.ReleaseAcknowledged:
		_, asked := r.Fact.(*events.ReleaseRequested)
		matches = asked && f.Assignment == r.Assignment
		f.At, f.Message = now, shorten(f.Message)
	}
	if !matches {
		s.metrics.malformed.Inc()
		return nil, fmt.Errorf("%w: a %s that is not for this request", errAnswer, fact.Kind())
	}
	return fact, nil
}

func shorten(s string) string {
	if len(s) > messageBytesMax {
		return s[:messageBytesMax]
	}
	return s
}

// refusal is the acknowledgement that the notifier gives in a node's place.
func refusal(r Request, err *fault.Error) events.Fact {
	now := events.InstantOf(time.Now())
	if _, release := r.Fact.(*events.ReleaseRequested); release {
		return &events.ReleaseAcknowledged{Assignment: r.Assignment, Code: string(err.Code), Message: err.Message, At: now}
	}
	return &events.AcquireAcknowledged{Assignment: r.Assignment, Code: string(err.Code), Message: err.Message, At: now}
}

func (s *Service) pauseWhileAlive(ctx context.Context, a events.Assignment, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = s.await(ctx, func() bool { return !s.state.Alive(a) })
}

// acknowledge publishes an acknowledgement unless the log has one; it returns when the
// state knows it, or ctx ended.
func (s *Service) acknowledge(ctx context.Context, r Request, ack events.Fact) {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		err := s.commit(ctx, events.StreamNotifications, func() events.Fact {
			if !s.state.Waits(r.Assignment) {
				return nil
			}
			return ack
		})
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			s.log.Warn("acknowledgement not published", "operation", r.Assignment.Operation, "error", err)
			sleep(ctx, retryAfter(attempt))
		}
	}
}
