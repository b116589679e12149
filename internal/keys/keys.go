// Package keys keeps nkeys: whoever has the seed is let in at a NATS server that knows the
// public half. A seed stands in a file that only its owner can read. It never crosses the
// wire, and nothing here prints it.
package keys

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"tidemark/internal/access"
)

// fileBytesMax bounds a file of credentials.
const fileBytesMax = 64 << 10

// Key is a user's key.
type Key struct {
	pair   nkeys.KeyPair
	public string
}

// New draws a key.
func New() (*Key, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("draw a key: %w", err)
	}
	return of(pair)
}

// Parse reads the seed of a user, bare or as a NATS .creds file holds it. Its errors do not
// show it.
func Parse(text []byte) (*Key, error) {
	pair, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return nil, errors.New("there is no user's seed (SU…) in it")
	}
	return of(pair)
}

func of(pair nkeys.KeyPair) (*Key, error) {
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	return &Key{pair, public}, nil
}

// Load reads a key from a file; [fs.ErrNotExist] if it is missing.
func Load(file string) (*Key, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	key, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return key, nil
}

func readFile(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > fileBytesMax {
		return nil, fmt.Errorf("key file %s: it is too long", file)
	}
	return os.ReadFile(file)
}

// Keep reads a key from a file, and draws one and keeps it there if the file is missing.
// Processes that do so at a time end up with the same one.
func Keep(file string) (*Key, error) {
	key, err := Load(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = New(); err != nil {
		return nil, err
	}
	if err := key.store(file); errors.Is(err, fs.ErrExist) {
		return Load(file)
	} else if err != nil {
		return nil, fmt.Errorf("keep a key: %w", err)
	}
	return key, nil
}

// store writes the seed under a name that nobody has yet: it is there as a whole, or not.
func (k *Key) store(file string) error {
	seed, err := k.Seed()
	if err != nil {
		return err
	}
	draft, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(draft.Name()) }() // it has its own name by then
	_, err = draft.WriteString(seed + "\n")
	if err := errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	return os.Link(draft.Name(), file)
}

// Public returns the public half.
func (k *Key) Public() string { return k.public }

// Seed returns the seed, a secret.
func (k *Key) Seed() (string, error) {
	seed, err := k.pair.Seed()
	return string(seed), err
}

// Sign answers a server's challenge.
func (k *Key) Sign(nonce []byte) ([]byte, error) { return k.pair.Sign(nonce) }

// IsPublic reports whether s is the public half of a user's key.
func IsPublic(s string) bool { return nkeys.IsValidPublicUserKey(s) }

// String shows the public half; the seed is not to be printed.
func (k *Key) String() string { return k.public }

// GoString is String.
func (k *Key) GoString() string { return k.public }

// Options make a connection that comes in with the key, and takes its answers where nobody
// else may listen. Without a key there are none.
func (k *Key) Options() []nats.Option {
	if k == nil {
		return nil
	}
	return []nats.Option{nats.Nkey(k.public, k.Sign), nats.CustomInboxPrefix(access.Inbox(k.public))}
}

// Credentials returns the options of a connection that comes in with a file: a user's seed,
// or a .creds file of an account with JWTs.
func Credentials(file string) ([]nats.Option, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	key, err := Parse(text)
	if err != nil {
		return nil, &FileError{file, err}
	}
	if !isJWT(text) {
		return key.Options(), nil
	}
	return []nats.Option{nats.UserCredentials(file), nats.CustomInboxPrefix(access.Inbox(key.public))}, nil
}

// FileError says that a file holds no credentials.
type FileError struct {
	File string
	err  error
}

// Error implements error.
func (e *FileError) Error() string { return fmt.Sprintf("credentials file %s: %v", e.File, e.err) }

// Unwrap returns why.
func (e *FileError) Unwrap() error { return e.err }

// Trust returns what a client checks a server's certificate with: the authorities in a file
// in PEM instead of the system's.
func Trust(file string) (*tls.Config, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &FileError{file, errors.New("there is no certificate in it")}
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Trusting checks the certificate of a server that shows one.
func Trusting(trust *tls.Config) nats.Option {
	return func(o *nats.Options) error {
		o.TLSConfig = trust.Clone()
		return nil
	}
}

// isJWT reports whether a file of credentials has a part that is marked as a JWT: a bare seed
// would be read as one.
func isJWT(text []byte) bool { return bytes.Contains(text, []byte("USER JWT")) }
