package peers

import (
	"crypto/tls"
	"errors"
	"io/fs"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
)

// Dialer is how a site comes in at others. The zero value has no key, and trusts the
// certificates that the system trusts.
type Dialer struct {
	// Key is the site's own, the same for all its nodes; nil: it has none.
	Key *keys.Key
	// Trust is what a peer's certificate is checked with.
	Trust *tls.Config
}

// Public returns the public half of the site's key; empty: it has none.
func (d Dialer) Public() string {
	if d.Key == nil {
		return ""
	}
	return d.Key.Public()
}

// Options returns what a connection to a peer needs besides its address.
func (d Dialer) Options(peer events.PeerAdded) ([]nats.Option, error) {
	if !peer.Auth {
		return d.With(nil), nil
	}
	if d.Key == nil {
		return nil, fault.New(fault.Denied, "site %s lets only users in, and this process has no key of this site: name it with --site-key", peer.Site)
	}
	return d.With(d.Key), nil
}

// With returns what a connection to another site needs that comes in with a key; nil is none.
func (d Dialer) With(key *keys.Key) []nats.Option {
	options := key.Options()
	if d.Trust != nil {
		options = append(options, keys.Trusting(d.Trust))
	}
	return options
}

// Refused says why another site's NATS was not reached, by what an operator does about it;
// whose names the credentials that were shown.
func Refused(err error, whose string) *fault.Error {
	var authority *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var coded *fault.Error
	switch {
	case errors.As(err, &coded):
		return coded
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrNkeysNotSupported):
		return fault.New(fault.Denied, "its NATS refuses %s: %w", whose, err)
	case errors.As(err, &authority):
		return fault.New(fault.Denied, "TLS: its certificate is not trusted here (--nats-ca names who is): %w", err)
	case errors.As(err, &record), errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return fault.New(fault.Denied, "TLS: %w", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Usage, "%w", err)
	}
	return fault.New(fault.Timeout, "%w", err)
}
