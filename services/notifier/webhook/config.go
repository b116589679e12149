package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Config says whom to tell.
type Config struct {
	Endpoints []Endpoint
	// Secrets sign each delivery, all of them: while one is replaced by another there are
	// two. At least one if there are endpoints.
	Secrets []Secret
	// AllowPrivate allows connections to addresses that are not public.
	AllowPrivate bool
	// GiveUp is how long a note is tried; zero is [DefaultGiveUp].
	GiveUp time.Duration
}

// DefaultGiveUp outlasts a weekend.
const DefaultGiveUp = 72 * time.Hour

// Endpoint is a URL that is told.
type Endpoint struct {
	url string
	// Name is a hash of the URL, which may be a secret itself: 16 hexadecimal digits.
	Name string
	Host string // and port, if the URL names one
}

// String names the endpoint without its URL.
func (e Endpoint) String() string { return e.Name + " at " + e.Host }

const nameDigits = 16

// ParseEndpoint checks a URL. Only https is allowed, and http too where private addresses
// are: there is no secret in a message, but who listens learns what it says.
func ParseEndpoint(raw string, allowPrivate bool) (Endpoint, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return Endpoint{}, errors.New("it is no URL") // the parser's error repeats it
	case u.Hostname() == "" || u.Opaque != "":
		return Endpoint{}, errors.New("it names no host: write it like https://hooks.example.com/tidemark")
	case u.Port() != "" && !isPort(u.Port()):
		return Endpoint{}, fmt.Errorf("port %s: it is from 1 to 65535", u.Port())
	case u.Scheme != "https" && u.Scheme != "http":
		return Endpoint{}, fmt.Errorf("scheme %q: it is https", u.Scheme)
	case u.Scheme == "http" && !allowPrivate:
		return Endpoint{}, fmt.Errorf("http to %s is not encrypted: use https, or allow private networks with --webhook-allow-private", u.Host)
	case u.User != nil:
		return Endpoint{}, fmt.Errorf("the URL at %s holds a user: deliveries are signed instead", u.Host)
	case u.Fragment != "":
		return Endpoint{}, fmt.Errorf("the URL at %s holds a fragment, which is not sent", u.Host)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !allowPrivate && !Public(addr) {
		return Endpoint{}, &BlockedError{addr}
	}
	sum := sha256.Sum256([]byte(raw))
	return Endpoint{raw, hex.EncodeToString(sum[:])[:nameDigits], u.Host}, nil
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// Secret is a key that deliveries are signed with. It does not print.
type Secret struct{ key []byte }

// String hides the key.
func (Secret) String() string { return secretPrefix + "…" }

// GoString hides the key.
func (s Secret) GoString() string { return s.String() }

// What a secret looks like, after Standard Webhooks.
const (
	secretPrefix   = "whsec_"
	secretBytesMin = 24
	secretBytesMax = 64
	secretsMax     = 4
)

// ParseSecrets reads a file of secrets, one on each line: whsec_ and the base64 of 24 to
// 64 random bytes. Errors do not repeat what they are about.
func ParseSecrets(text []byte) ([]Secret, error) {
	var all []Secret
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		encoded, ok := strings.CutPrefix(string(line), secretPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < secretBytesMin || len(key) > secretBytesMax {
			return nil, fmt.Errorf("a line of it is no secret: %s and the base64 of %d to %d random bytes", secretPrefix, secretBytesMin, secretBytesMax)
		}
		all = append(all, Secret{key})
	}
	if len(all) == 0 || len(all) > secretsMax {
		return nil, fmt.Errorf("it holds %d secrets: 1 to %d, one on each line", len(all), secretsMax)
	}
	return all, nil
}
