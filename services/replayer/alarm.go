package replayer

import (
	"context"
	"fmt"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
)

const (
	// stallPeriod is how long a copy may stand still that is behind, or may not hear of
	// its primary, before that is an alarm.
	stallPeriod = 10 * time.Second
	// watchAge is how often alarms are looked at.
	watchAge = time.Second
)

// alarms are those that were raised and not taken back.
type alarms struct{ rpo, stalled bool }

// signs are what alarms are raised from.
type signs struct {
	lag      api.Lag
	still    time.Duration // since the copy last moved, or had nothing to do
	settings Settings
}

// turn is one change of an alarm.
type turn struct {
	what   events.Lifecycle
	detail string
}

// next decides which alarms there are now, and what listeners are told: each excess once,
// and once that it is over. A copy that is held back on purpose may be so long behind, and
// stand still for so long, without that being one.
func (a alarms) next(s signs) (alarms, []turn) {
	var turns []turn
	late := s.lag.Seconds - s.settings.Delay.Seconds()
	over := s.settings.TargetRPO > 0 && late > s.settings.TargetRPO.Seconds()
	switch detail := fmt.Sprintf("%.1f s behind, %d entries, %d bytes; the target is %s",
		s.lag.Seconds, s.lag.Entries, s.lag.Bytes, s.settings.TargetRPO); {
	case over && !a.rpo:
		turns = append(turns, turn{events.RPOExceeded, detail})
	case !over && a.rpo:
		turns = append(turns, turn{events.RPORestored, detail})
	}
	unheard := time.Duration(s.lag.Unheard * float64(time.Second))
	stalled := unheard > stallPeriod || s.lag.Entries > 0 && s.still > stallPeriod+s.settings.Delay
	switch {
	case stalled && !a.stalled && unheard > stallPeriod:
		turns = append(turns, turn{events.Stalled, fmt.Sprintf("the primary was not heard for %s", unheard.Round(time.Second))})
	case stalled && !a.stalled:
		turns = append(turns, turn{events.Stalled, fmt.Sprintf("%d entries behind, and nothing was applied for %s", s.lag.Entries, s.still.Round(time.Second))})
	case !stalled && a.stalled:
		turns = append(turns, turn{events.Resumed, ""})
	}
	return alarms{over, stalled}, turns
}

// watch raises alarms and takes them back until ctx ends. It needs nothing from the source:
// one that says nothing is what it is for.
func (f *follower) watch(ctx context.Context) {
	tick := time.NewTicker(watchAge)
	defer tick.Stop()
	// An earlier process may have raised some.
	raised := alarms{rpo: f.lasts(ctx, "", events.RPOExceeded), stalled: f.lasts(ctx, "", events.Stalled)}
	var done progressed
	moved := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		s := signs{lag: f.behind(now), settings: f.service.settings(f.id)}
		if is := f.progressed(); is != done || s.lag.Entries == 0 {
			done, moved = is, now
		}
		s.still = now.Sub(moved)
		var turns []turn
		raised, turns = raised.next(s)
		for _, t := range turns {
			f.log.Warn("replication alarm", "what", string(t.what), "detail", t.detail)
			f.note(t.what, t.detail)
		}
		f.mu.Lock()
		f.raised = raised
		f.mu.Unlock()
	}
}

// progressed is what changes while a copy moves.
type progressed struct {
	applied events.Position
	copied  uint64 // bytes of objects
}

func (f *follower) progressed() progressed {
	p := progressed{applied: f.marks().Applied.Position}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.progress != nil {
		p.copied = f.progress.progress(time.Now()).Bytes
	}
	return p
}
