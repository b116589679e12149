package events

// Assignment identifies one acquire or release: an acknowledgement repeats it, and one
// that does not match the assignment in force changes nothing.
type Assignment struct {
	Operation   string      `json:"operation"` // unique for each request
	Directory   DirectoryID `json:"directory"`
	Node        string      `json:"node"`
	Incarnation string      `json:"incarnation"` // of the service that is asked
	Role        Role        `json:"role"`
	Epoch       uint64      `json:"epoch"` // of the mapping that the request carries out
}

// AcquireRequested says that policy wants a node to hold a directory.
type AcquireRequested struct {
	Assignment
	Pool string `json:"pool"`
	Path string `json:"path"`
	// Promote is set when the node becomes master of a directory that this site
	// followed until now: "orderly" or "forced", else empty.
	Promote TagReason `json:"promote,omitempty"`
	// Resync is the number of the newest [ResyncRequested] that is in force, and
	// KeepRefused what it asked for; zero is none. A copy that was resynced for a lower
	// number is resynced.
	Resync      uint64  `json:"resync,omitempty"`
	KeepRefused bool    `json:"keep_refused,omitempty"`
	At          Instant `json:"at"`
	// Elsewhere is set when another node of the site has held the directory too: a slave's copy
	// that does not fit the site's journal is then an old one, and is replaced; where there is
	// none, one is made, and the journal is left alone until it is complete.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// ReleaseRequested says that policy wants a node to let go of a directory.
type ReleaseRequested struct {
	Assignment
	Pool string `json:"pool"`
	Path string `json:"path"`
	// Demote asks a master to end its ownership in the journal before it lets go.
	Demote bool `json:"demote"`
	// Remove asks for the copy to be deleted after it was let go; with IfEmpty, at a
	// master, only if it holds no images then, and else with the error busy for nothing
	// to be deleted.
	Remove  bool `json:"remove"`
	IfEmpty bool `json:"if_empty,omitempty"`
	// KeepAll asks a slave to keep also what it received and its origin has not reported
	// safe: the copy is about to be promoted without its origin.
	KeepAll bool `json:"keep_all,omitempty"`
	// Discard asks a node that does not hold the directory to delete the copy that it kept
	// when the directory left it, if the holder has all that is in it; the journal stays.
	Discard bool    `json:"discard,omitempty"`
	At      Instant `json:"at"`
}

// AcquireAcknowledged is a node's answer to an acquire.
type AcquireAcknowledged struct {
	Assignment
	// Code is empty on success, else an error code of the interface ("busy", …).
	Code    string  `json:"code,omitempty"`
	Message string  `json:"message,omitempty"`
	Mark    Mark    `json:"mark"` // from where the node took over
	At      Instant `json:"at"`
}

// ReleaseAcknowledged is a node's answer to a release.
type ReleaseAcknowledged struct {
	Assignment
	Code     string  `json:"code,omitempty"`
	Message  string  `json:"message,omitempty"`
	Quiesced bool    `json:"quiesced"` // nothing of the directory is still in motion
	Mark     Mark    `json:"mark"`     // where the node let go
	At       Instant `json:"at"`
}

func (*AcquireRequested) Kind() string    { return "acquire_requested" }
func (*ReleaseRequested) Kind() string    { return "release_requested" }
func (*AcquireAcknowledged) Kind() string { return "acquire_acknowledged" }
func (*ReleaseAcknowledged) Kind() string { return "release_acknowledged" }

func (f *AcquireRequested) Subject() string    { return "tidemark.notify." + Token(f.Node) }
func (f *ReleaseRequested) Subject() string    { return "tidemark.notify." + Token(f.Node) }
func (f *AcquireAcknowledged) Subject() string { return "tidemark.ack." + Token(f.Node) }
func (f *ReleaseAcknowledged) Subject() string { return "tidemark.ack." + Token(f.Node) }
