package policy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"tidemark/events"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
)

// A bootstrap token is one line of text:
//
//	tidemark1.BASE64URL(JSON of bootstrap)
//
// Whoever has it may make one site a peer of one pool until it expires. It carries a
// secret, of which the site that made it keeps only the SHA-256.
const (
	tokenPrefix   = "tidemark1."
	tokenVersion  = 1
	tokenBytesMax = 4096
	urlBytesMax   = 1024
	secretBytes   = 32
)

// bootstrap is the content of a token.
type bootstrap struct {
	Version int            `json:"version"`
	Pool    string         `json:"pool"`
	Site    string         `json:"site"`
	UUID    string         `json:"uuid"`
	URL     string         `json:"url"`
	Token   string         `json:"token"`
	Secret  secret         `json:"secret"`
	Expires events.Instant `json:"expires"`
	// Seed is of the key with which the bearer comes in to join, where the site's NATS lets only
	// users in. It is another secret than Secret, because that one crosses the wire.
	Seed secret `json:"seed,omitempty"`
}

// secret is text that logs and errors must not show.
type secret string

// String hides the secret.
func (secret) String() string { return "(hidden)" }

// GoString hides the secret from %#v.
func (secret) GoString() string { return "(hidden)" }

func newSecret() (secret, []byte, error) {
	var b [secretBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", nil, fmt.Errorf("draw a secret: %w", err)
	}
	text := secret(base64.RawURLEncoding.EncodeToString(b[:]))
	return text, hashSecret(string(text)), nil
}

func hashSecret(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// opens reports whether a secret is the token's, in a time that does not depend on it.
func (t Token) opens(text string) bool {
	return len(t.SecretHash) == sha256.Size && subtle.ConstantTimeCompare(t.SecretHash, hashSecret(text)) == 1
}

func (b bootstrap) encode() (string, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(text), nil
}

// decodeToken reads a token. Its errors say what is wrong and never show the token.
func decodeToken(text string) (bootstrap, error) {
	text = strings.TrimSpace(text)
	bad := func(what string) (bootstrap, error) {
		return bootstrap{}, fault.New(fault.Usage, "this is not a bootstrap token: %s", what)
	}
	if len(text) > tokenBytesMax {
		return bad("it is too long")
	}
	body, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return bad("it does not begin with " + tokenPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return bad("it is damaged")
	}
	var b bootstrap
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return bad("its content cannot be read")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows its content")
	}
	switch {
	case b.Version != tokenVersion:
		return bad(fmt.Sprintf("its version is %d, where this program knows %d", b.Version, tokenVersion))
	case events.CheckName(b.Pool) != nil, events.CheckName(b.Site) != nil, !isID(b.UUID), !isID(b.Token), b.Secret == "", b.Expires <= 0:
		return bad("a field is missing or wrong")
	}
	if err := checkURL(b.URL); err != nil {
		return bad(err.Error())
	}
	if _, err := b.key(); err != nil {
		return bad("its key cannot be read")
	}
	return b, nil
}

// key returns the key with which the bearer comes in; nil where everybody is let in.
func (b bootstrap) key() (*keys.Key, error) {
	if b.Seed == "" {
		return nil, nil //nolint:nilnil // no key is a key for everybody
	}
	return keys.Parse([]byte(b.Seed))
}

// newEntry draws the key of a token, where the site's NATS lets only users in.
func (s *Service) newEntry() (public string, seed secret, err error) {
	if !s.node.Auth {
		return "", "", nil
	}
	key, err := keys.New()
	if err != nil {
		return "", "", err
	}
	text, err := key.Seed()
	if err != nil {
		return "", "", fmt.Errorf("draw a key: %w", err)
	}
	return key.Public(), secret(text), nil
}

// isKey reports whether s is the public half of a key, or empty: none.
func isKey(s string) bool { return s == "" || keys.IsPublic(s) }

// isID reports whether s can be an id that a site drew.
func isID(s string) bool {
	return s != "" && len(s) <= 64 && events.Token(s) == s
}

// checkURL checks where a site says that its NATS answers. Credentials in it are refused:
// it is stored in the log and shown.
func checkURL(text string) error {
	if text == "" || len(text) > urlBytesMax {
		return errors.New("its address is missing or too long")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return errors.New("its address is not a URL")
	case u.User != nil:
		return errors.New("its address carries credentials")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
		return nil
	}
	return errors.New("its address is not one of a NATS server")
}
