package events

// Direction says which way a peer's directories may flow.
type Direction string

// The directions of a peer.
const (
	ReceiveAndSend Direction = "rx-tx"   // both sites may follow each other
	ReceiveOnly    Direction = "rx-only" // this site may follow the peer, which does not follow it
	SendOnly       Direction = "tx-only" // the other end of rx-only
)

// PoolCreated says that a pool came to be.
type PoolCreated struct {
	Pool string  `json:"pool"`
	At   Instant `json:"at"`
}

// PoolRemoved says that an empty pool was removed.
type PoolRemoved struct {
	Pool string  `json:"pool"`
	At   Instant `json:"at"`
}

// MirrorEnabled says that the directories of a pool may be mirrored.
type MirrorEnabled struct {
	Pool string  `json:"pool"`
	At   Instant `json:"at"`
}

// MirrorDisabled says that peers may no longer follow a pool's directories, nor it theirs.
type MirrorDisabled struct {
	Pool string  `json:"pool"`
	At   Instant `json:"at"`
}

// TokenCreated says that a bootstrap token was handed out. The secret is not in it:
// only its SHA-256, against which the bearer is checked.
type TokenCreated struct {
	Pool       string  `json:"pool"`
	Token      string  `json:"token"` // the token's public id
	SecretHash []byte  `json:"secret_hash"`
	Expires    Instant `json:"expires"`
	At         Instant `json:"at"`
	// Key is the public half of the key with which the bearer comes in to join; empty where
	// the site's NATS lets everybody in.
	Key string `json:"key,omitempty"`
}

// PeerAdded says that another site became a peer of a pool.
type PeerAdded struct {
	Pool string `json:"pool"`
	Peer string `json:"peer"` // the peer site's UUID
	Site string `json:"site"` // its name
	// URL is where the peer's NATS answers; empty when the peer only receives, so that
	// nothing can be followed from it.
	URL       string    `json:"url"`
	Direction Direction `json:"direction"`
	// Number is the peer's site number as far as known, else zero.
	Number uint16  `json:"number,omitempty"`
	Token  string  `json:"token,omitempty"` // the token that brought it in
	At     Instant `json:"at"`
	// Key is the public half of the key with which the peer comes in here; empty: it has none,
	// and can come in only where everybody is let in.
	Key string `json:"key,omitempty"`
	// Auth is set if the peer's NATS lets only users in: this site comes with its own key.
	Auth bool `json:"auth,omitempty"`
}

// PeerRemoved says that a site is no longer a peer of a pool.
type PeerRemoved struct {
	Pool string  `json:"pool"`
	Peer string  `json:"peer"`
	At   Instant `json:"at"`
}

// SiteNumbered says which number the site puts into the tags that it gives out from
// now on: chosen at random first, chosen again when a peer turns out to have the same.
type SiteNumbered struct {
	Site   string  `json:"site"` // the site's UUID
	Name   string  `json:"name"`
	Number uint16  `json:"number"` // 1 to MaxSiteNumber
	At     Instant `json:"at"`
}

func poolSubject(pool, what string) string { return "tidemark.pool." + Token(pool) + "." + what }

// Kind and Subject implement [Fact].

func (*PoolCreated) Kind() string    { return "pool_created" }
func (*PoolRemoved) Kind() string    { return "pool_removed" }
func (*MirrorEnabled) Kind() string  { return "mirror_enabled" }
func (*MirrorDisabled) Kind() string { return "mirror_disabled" }
func (*TokenCreated) Kind() string   { return "token_created" }
func (*PeerAdded) Kind() string      { return "peer_added" }
func (*PeerRemoved) Kind() string    { return "peer_removed" }
func (*SiteNumbered) Kind() string   { return "site_numbered" }

func (f *PoolCreated) Subject() string    { return poolSubject(f.Pool, f.Kind()) }
func (f *PoolRemoved) Subject() string    { return poolSubject(f.Pool, f.Kind()) }
func (f *MirrorEnabled) Subject() string  { return poolSubject(f.Pool, f.Kind()) }
func (f *MirrorDisabled) Subject() string { return poolSubject(f.Pool, f.Kind()) }
func (f *TokenCreated) Subject() string   { return poolSubject(f.Pool, f.Kind()) }
func (f *PeerAdded) Subject() string      { return poolSubject(f.Pool, f.Kind()) }
func (f *PeerRemoved) Subject() string    { return poolSubject(f.Pool, f.Kind()) }
func (f *SiteNumbered) Subject() string   { return "tidemark.pool.site_numbered" }
