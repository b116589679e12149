package replayer

import (
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/sitetest"
)

// Settings are followed live, and are known before anything is acquired after a restart.
func TestSettingsAreFollowedLive(t *testing.T) {
	t.Parallel()
	at := sitetest.Start(t, "west")
	run := func() (*Service, func()) {
		s := New(Deps{Bus: at.Bus, Node: at.Node, Log: at.Log})
		stop := sitetest.Run(t, s.Run)
		<-s.Ready()
		return s, stop
	}
	publish := func(f events.Fact) {
		t.Helper()
		if _, err := at.Bus.Publish(t.Context(), events.StreamDirectories, f); err != nil {
			t.Fatal(err)
		}
	}
	s, stop := run()
	if got := s.settings(westID); got != (Settings{}) {
		t.Errorf("settings of nothing: %+v", got)
	}
	changed := s.settingsChanged()
	publish(&events.DirectoryConfigured{Directory: westID, Pool: "vms", Delay: time.Minute, TargetRPO: time.Second, SyncRate: 7})
	await(t, changed)
	want := Settings{time.Minute, time.Second, 7}
	if got := s.settings(westID); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	stop()

	s, _ = run()
	if got := s.settings(westID); got != want {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
	changed = s.settingsChanged()
	publish(&events.DirectoryConfigured{Directory: westID, Pool: "vms", Delay: -1, SyncRate: 8})
	await(t, changed)
	if got := s.settings(westID); got != (Settings{SyncRate: 8}) {
		t.Errorf("the newest is not in force: %+v", got)
	}
	changed = s.settingsChanged()
	publish(&events.DirectoryForgotten{Directory: westID, Pool: "vms"})
	await(t, changed)
	if got := s.settings(westID); got != (Settings{}) {
		t.Errorf("settings of a directory that is gone: %+v", got)
	}
}

func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(sitetest.Patience):
		t.Fatal("nobody is told of a change")
	}
}
