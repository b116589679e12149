package access_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/keys"
)

const noon = events.Instant(1_800_000_000_000_000_000)

// stage is a fold of facts in which every key is drawn once, by name.
type stage struct {
	t      *testing.T
	guests *access.Guests
	names  map[string]string // by public key
	keys   map[string]string // by name
}

func newStage(t *testing.T) *stage {
	return &stage{t, access.NewGuests("east"), map[string]string{}, map[string]string{}}
}

func (s *stage) key(name string) string {
	s.t.Helper()
	if s.keys[name] == "" {
		key, err := keys.New()
		if err != nil {
			s.t.Fatal(err)
		}
		s.keys[name], s.names[key.Public()] = key.Public(), name
	}
	return s.keys[name]
}

func (s *stage) say(facts ...events.Fact) {
	for _, f := range facts {
		s.guests.Evolve(f)
	}
}

// in names who is let in at a moment, and returns when that changes by itself.
func (s *stage) in(now events.Instant) (names []string, next events.Instant) {
	users, next := s.guests.Users(now)
	for _, u := range users {
		names = append(names, s.names[u.Key])
	}
	slices.Sort(names)
	return names, next
}

func (s *stage) demand(when string, now events.Instant, want ...string) {
	s.t.Helper()
	if got, _ := s.in(now); !slices.Equal(got, want) {
		s.t.Errorf("%s: %q are let in, want %q", when, got, want)
	}
}

// may reports whether a guest may publish to a subject, as it stands in its grant.
func (s *stage) may(name, subject string) bool {
	users, _ := s.guests.Users(noon)
	for _, u := range users {
		if s.names[u.Key] == name {
			return slices.Contains(u.Publish, subject)
		}
	}
	return false
}

func TestTokensComeAndGo(t *testing.T) {
	s := newStage(t)
	hour := events.Instant(time.Hour)
	s.say(&events.PoolCreated{Pool: "vms"},
		&events.TokenCreated{Pool: "vms", Token: "a", Key: s.key("a"), Expires: noon + hour},
		&events.TokenCreated{Pool: "vms", Token: "b", Key: s.key("b"), Expires: noon + 2*hour},
		&events.TokenCreated{Pool: "vms", Token: "old", Expires: noon + hour},                     // of a program without keys
		&events.TokenCreated{Pool: "vms", Token: "evil", Key: "} users: [", Expires: noon + hour}, // no key
		&events.TokenCreated{Pool: "none", Token: "c", Key: s.key("c"), Expires: noon + hour})
	s.demand("at first", noon, "a", "b")
	if _, next := s.in(noon); next != noon+hour {
		t.Errorf("the next change is at %s", next.Time())
	}
	s.demand("when one has expired", noon+hour, "b")
	s.say(&events.PeerAdded{Pool: "vms", Peer: "w", Token: "b", Key: s.key("west"), Direction: events.ReceiveAndSend, At: noon})
	s.demand("while the answer is under way", noon+1, "a", "b", "west")
	s.demand("when that was long ago", noon+events.Instant(time.Minute), "a", "west")
	// Who says again that it was used does not give it more time.
	s.say(&events.PeerAdded{Pool: "vms", Peer: "x", Token: "b", Key: s.key("north"), Direction: events.ReceiveAndSend, At: noon + hour/2})
	s.demand("when another says that it used it", noon+hour/2, "a", "north", "west")
	s.say(&events.PeerRemoved{Pool: "vms", Peer: "w"})
	s.demand("when its peer was removed", noon+1, "a", "north")
	s.say(&events.PoolRemoved{Pool: "vms"})
	s.demand("when the pool was removed", noon)
}

func TestPeersReachWhatTheyShare(t *testing.T) {
	s := newStage(t)
	name := func(pool string) events.DirectoryName { return events.DirectoryName{Pool: pool, Path: "/prod"} }
	reads := func(pool string, id events.DirectoryID) string {
		return "$JS.API.CONSUMER.CREATE." + events.JournalStream(name(pool), id) + ".>"
	}
	for _, pool := range []string{"vms", "db"} {
		s.say(&events.PoolCreated{Pool: pool}, &events.MirrorEnabled{Pool: pool},
			&events.DirectoryCreated{Directory: events.DirectoryID(pool + "1"), Pool: pool, Path: "/prod"})
	}
	s.say(&events.PeerAdded{Pool: "vms", Peer: "w", Key: s.key("west"), Direction: events.ReceiveAndSend},
		&events.PeerAdded{Pool: "vms", Peer: "n", Key: s.key("north"), Direction: events.SendOnly},
		&events.PeerAdded{Pool: "vms", Peer: "s", Key: s.key("south"), Direction: events.ReceiveOnly}, // does not come here
		&events.PeerAdded{Pool: "vms", Peer: "o", Direction: events.ReceiveAndSend})                   // has no key
	s.demand("of one pool", noon, "north", "west")
	if !s.may("west", reads("vms", "vms1")) || s.may("west", reads("db", "db1")) {
		t.Error("a peer reads another pool, or not its own")
	}
	s.say(&events.PeerAdded{Pool: "db", Peer: "w", Key: s.key("west"), Direction: events.ReceiveAndSend})
	if !s.may("west", reads("vms", "vms1")) || !s.may("west", reads("db", "db1")) || s.may("north", reads("db", "db1")) {
		t.Error("a peer of two pools does not read both, or one of one pool reads both")
	}
	s.say(&events.DirectoryTracked{Directory: "vms2", Pool: "vms", Path: "/prod"}, &events.DirectoryForgotten{Directory: "vms1", Pool: "vms"})
	if s.may("west", reads("vms", "vms1")) || !s.may("west", reads("vms", "vms2")) {
		t.Error("directories that come and go are not followed")
	}
	s.say(&events.MirrorDisabled{Pool: "vms"})
	if s.may("west", reads("vms", "vms2")) || !s.may("west", "tidemark.api.holder.vms2.sync.check") {
		t.Error("while the pool is not mirrored a peer reads it, or is not told why it may not")
	}
	s.say(&events.PeerRemoved{Pool: "vms", Peer: "w"})
	if s.may("west", "tidemark.api.shared.vms.list") || !s.may("west", reads("db", "db1")) {
		t.Error("removed from one pool, a peer reaches it, or the other no more")
	}
	s.say(&events.PeerRemoved{Pool: "db", Peer: "w"})
	s.demand("when it is no peer", noon, "north")
}

// TestConfigurationHoldsNothingElse: what names hold does not become configuration.
func TestConfigurationHoldsNothingElse(t *testing.T) {
	key := newStage(t).key("x")
	text := access.Configuration(access.Grant{Name: "a\n}\nauthorization: {}", Publish: []string{`a.">`}}.User(key))
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "authorization") {
			t.Errorf("a name is configuration:\n%s", text)
		}
	}
	if !strings.Contains(text, `"a.\">"`) {
		t.Errorf("a subject is not quoted:\n%s", text)
	}
}
