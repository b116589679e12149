package replayer

import "time"

// delay returns how long after it was written at the source a message is applied here, and
// what is closed when that may have changed.
func (f *follower) delay() (time.Duration, <-chan struct{}) {
	changed := f.service.settingsChanged()
	return f.service.settings(f.id).Delay, changed
}
