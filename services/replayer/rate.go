package replayer

import (
	"context"
	"time"

	limiter "golang.org/x/time/rate"
)

const (
	// rateBurst is how much may come at once, in bytes: no part of an object and no
	// message of a journal is larger.
	rateBurst = 1 << 20
	// slowRate is in bytes per second.
	slowRate = 8 << 20
	// rateStep bounds one wait, so that a new rate is soon followed.
	rateStep = 100 * time.Millisecond
)

// rate bounds what is taken over the link of one directory, objects and journal, in bytes
// per second: a bucket that fills at that rate. It may be changed at any time.
type rate struct{ bucket *limiter.Limiter }

func newRate(perSecond uint64) *rate {
	r := &rate{limiter.NewLimiter(limiter.Inf, rateBurst)}
	r.set(perSecond)
	return r
}

// set changes the rate; zero is no bound.
func (r *rate) set(perSecond uint64) {
	if perSecond == 0 {
		r.bucket.SetLimit(limiter.Inf)
		return
	}
	r.bucket.SetLimit(limiter.Limit(perSecond))
}

// slow reports whether objects are better copied one after the other: several at a time
// would all take so long that a cut link costs much.
func (r *rate) slow() bool { return r != nil && r.bucket.Limit() < slowRate }

// take waits until n more bytes may come.
func (r *rate) take(ctx context.Context, n int) error {
	if r == nil {
		return ctx.Err()
	}
	n = min(n, rateBurst)
	for !r.bucket.AllowN(time.Now(), n) {
		missing := float64(n) - r.bucket.Tokens()
		wait := time.Duration(missing / float64(r.bucket.Limit()) * float64(time.Second))
		pause(ctx, min(max(wait, time.Millisecond), rateStep))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// keepRate keeps the rate as the directory's settings have it until ctx ends.
func (f *follower) keepRate(ctx context.Context) {
	for {
		changed := f.service.settingsChanged()
		f.rate.set(f.service.settings(f.id).SyncRate)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
