package natsd

import (
	"encoding/base64"
	"errors"
	"fmt"
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
	c.RegisterUser(&server.User{Account: in, Permissions: permissions(u.Grant)})
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

func permissions(g access.Grant) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: slices.Clone(g.Publish), Deny: slices.Clone(g.DenyPublish)},
		Subscribe: &server.SubjectPermission{Allow: slices.Clone(g.Subscribe)},
	}
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
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.users
	d.users = users
	var failed error
	for id, c := range d.in {
		if d.server.GetClient(id) == nil {
			delete(d.in, id)
			continue
		}
		key := c.GetOpts().Nkey
		was, is := before[key], users[key]
		_, stays := users[key]
		switch {
		case stays && reflect.DeepEqual(was, is):
		case stays && includes(is.Subscribe, was.Subscribe):
			c.RegisterUser(&server.User{Permissions: permissions(is.Grant)}) // of the account that it is in
		default:
			delete(d.in, id)
			if err := d.server.DisconnectClientByID(id); err != nil && d.server.GetClient(id) != nil {
				failed = errors.Join(failed, fmt.Errorf("close the connection of %s: %w", was.Name, err))
			}
		}
	}
	return failed
}

func includes(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
