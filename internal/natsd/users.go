package natsd

import (
	"fmt"

	"tidemark/internal/access"
	"tidemark/internal/keys"
)

// accounts is the part of the server's configuration that says who may come in. Nobody may
// into the system account.
func accounts(cfg Config, own *keys.Key) string {
	const form = `
accounts {
  %s {
    jetstream: enabled
    users: %s
  }
  SYS {}
}
system_account: SYS
`
	if !cfg.Auth {
		// Nobody has the key: who reaches the address comes in without credentials.
		return fmt.Sprintf(form+"no_auth_user: %s\n", account, fmt.Sprintf("[ { nkey: %s } ]", own.Public()), own.Public())
	}
	everything := access.Grant{Name: "the process of this server", Publish: []string{">"}, Subscribe: []string{">"}}
	return fmt.Sprintf(form, account, access.Configuration(append([]access.User{everything.User(own.Public())}, cfg.Users...)...))
}

// SetUsers makes these the users that are let in, besides the process's own. Connections of
// users that stay go on; those of users that are gone are closed at once.
func (s *Server) SetUsers(users []access.User) error {
	if !s.cfg.Auth {
		return nil
	}
	cfg := s.cfg
	cfg.Users = users
	opts, err := options(cfg, s.own)
	if err != nil {
		return err
	}
	if err := s.server.ReloadOptions(opts); err != nil {
		return fmt.Errorf("change the users of the NATS server: %w", err)
	}
	return nil
}
