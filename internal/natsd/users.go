package natsd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"tidemark/internal/access"
	"tidemark/internal/keys"
)

// accounts is the part of the server's configuration that says who may come in. Nobody may
// into the system account. Where users are demanded, [door] is asked.
func accounts(cfg Config, own *keys.Key) string {
	const form = `
accounts {
  %s { jetstream: enabled, users: %s }
  SYS {}
}
system_account: SYS
`
	if cfg.Auth {
		return fmt.Sprintf(form, account, "[]")
	}
	// Nobody has the key: who reaches the address comes in without credentials.
	return fmt.Sprintf(form+"no_auth_user: %s\n", account, fmt.Sprintf("[ { nkey: %s } ]", own.Public()), own.Public())
}

// door decides who comes in, and knows who is in. The server's own list of users can be changed
// while it runs too ([server.Server.ReloadOptions]), but whatever is changed so, JetStream's
// requests find nobody for a moment: a service that just starts would fail.
type door struct {
	own string // the public key of the process itself, which may do everything

	mu     sync.Mutex
	server *server.Server // nil until it runs
	users  map[string]access.User
	in     map[uint64]server.ClientAuthentication // by connection
	// changing is held while users change: that takes a while, in which others come in.
	changing sync.Mutex
}

func newDoor(cfg Config, own *keys.Key) *door {
	d := &door{own: own.Public(), in: map[uint64]server.ClientAuthentication{}}
	d.users = byKey(cfg.Users)
	return d
}

// open has the door ask a server who is in.
func (d *door) open(s *server.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server = s
}

func byKey(users []access.User) map[string]access.User {
	all := map[string]access.User{}
	for _, u := range users {
		all[u.Key] = u
	}
	return all
}

// Check implements [server.Authentication]: whether a connection shows that it has the key of
// a user, who it then is.
func (d *door) Check(c server.ClientAuthentication) bool {
	opts := c.GetOpts()
	if c.Kind() != server.CLIENT || !signed(opts.Nkey, opts.Sig, c.GetNonce()) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	u, known := d.users[opts.Nkey]
	if d.server == nil || !known && opts.Nkey != d.own {
		return false
	}
	in, err := d.server.LookupAccount(account)
	if err != nil {
		return false
	}
	if opts.Nkey == d.own {
		c.RegisterUser(&server.User{Account: in})
		return true
	}
	c.RegisterUser(&server.User{Account: in, Permissions: permissions(u.Of(opts.Name))})
	d.forgetGone()
	d.in[c.GetID()] = c
	return true
}

// forgetGone is called under the lock. There is no word of a connection that ends; in the
// mean each is looked at a few times.
func (d *door) forgetGone() {
	if len(d.in) <= 2*d.server.NumClients() {
		return
	}
	for id := range d.in {
		if d.server.GetClient(id) == nil {
			delete(d.in, id)
		}
	}
}

// signed reports whether a signature answers a server's challenge by a key.
func signed(key, signature string, nonce []byte) bool {
	public, err := nkeys.FromPublicKey(key)
	if err != nil || len(nonce) == 0 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		raw, err = base64.StdEncoding.DecodeString(signature) // of older clients
	}
	return err == nil && public.Verify(nonce, raw) == nil
}

// permissions is a grant as the server has it, for which an empty list of what is allowed
// allows everything.
func permissions(g access.Grant) *server.Permissions {
	p := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: slices.Clone(g.Publish), Deny: slices.Clone(g.DenyPublish)},
		Subscribe: &server.SubjectPermission{Allow: slices.Clone(g.Subscribe)},
	}
	for _, list := range []*server.SubjectPermission{p.Publish, p.Subscribe} {
		if len(list.Allow) == 0 {
			list.Deny = []string{">"}
		}
	}
	return p
}

// SetUsers makes these the users that are let in, besides the process's own. Connections of
// users that stay go on, with what is granted to them now; those of users that are gone are
// closed at once. So are those of a user who may not listen any more to what it could: what it
// has subscribed to would go on. It comes in again by itself.
func (s *Server) SetUsers(users []access.User) error {
	if !s.cfg.Auth {
		return nil
	}
	return s.door.set(byKey(users))
}

func (d *door) set(users map[string]access.User) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.mu.Lock()
	before, in := d.users, maps.Clone(d.in) // who comes in from now on is one of users
	d.users = users
	d.mu.Unlock()
	fates := map[connection]fate{}
	var failed error
	for id, c := range in {
		as := connection{c.GetOpts().Nkey, c.GetOpts().Name}
		next, known := fates[as]
		if !known {
			next = as.fate(before, users)
			fates[as] = next
		}
		switch next {
		case stays:
		case changes:
			c.RegisterUser(&server.User{Permissions: permissions(users[as.key].Of(as.name))}) // of the account that it is in
		default:
			if err := d.server.DisconnectClientByID(id); err != nil && d.server.GetClient(id) != nil {
				failed = errors.Join(failed, fmt.Errorf("close a connection of %s: %w", as.key, err))
			}
		}
	}
	return failed
}

// connection is as whom, and what for, somebody came in.
type connection struct{ key, name string }

// fate is what becomes of a user's connections.
type fate int

const (
	goes fate = iota
	stays
	changes // its grant does
)

// fate decides about a connection. One whose subscriptions might be none of its grant any more
// goes, because they would outlive the change.
func (c connection) fate(before, after map[string]access.User) fate {
	user, known := after[c.key]
	was, is := before[c.key].Of(c.name), user.Of(c.name)
	switch {
	case !known:
		return goes
	case reflect.DeepEqual(was, is):
		return stays
	case includes(is.Subscribe, was.Subscribe):
		return changes
	}
	return goes
}

func includes(all, some []string) bool {
	has := make(map[string]bool, len(all))
	for _, s := range all {
		has[s] = true
	}
	return !slices.ContainsFunc(some, func(s string) bool { return !has[s] })
}
