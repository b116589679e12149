package events

import (
	"fmt"
	"strings"
)

// Streams that every site has. Journal streams, one for each directory, are named by
// [JournalStream].
const (
	StreamPools         = "POOLS"
	StreamDirectories   = "DIRECTORIES"
	StreamInstances     = "INSTANCES"
	StreamNotifications = "NOTIFICATIONS"
	StreamPositions     = "POSITIONS"
	StreamLifecycle     = "LIFECYCLE"
	StreamDeliveries    = "DELIVERIES"
)

// Stream describes one stream: what the bus must create before it is used.
type Stream struct {
	Name     string
	Subjects []string
	// MaxBytes bounds the stream; a full stream refuses new messages (discard new).
	// Zero is no bound.
	MaxBytes int64
	// LastPerSubject keeps only the newest message of each subject.
	LastPerSubject bool
	// Rolling drops the oldest messages at MaxBytes instead of refusing new ones: for
	// records that inform and that no state is folded from.
	Rolling bool
}

const (
	controlBytesMax   = 256 << 20
	lifecycleBytesMax = 64 << 20
	deliveryBytesMax  = 64 << 20
)

// SiteStreams returns the streams that every site has.
func SiteStreams() []Stream {
	return []Stream{
		{Name: StreamPools, Subjects: []string{PoolsSubject}, MaxBytes: controlBytesMax},
		{Name: StreamDirectories, Subjects: []string{DirectoriesSubject}, MaxBytes: controlBytesMax},
		{Name: StreamInstances, Subjects: []string{InstancesSubject}, MaxBytes: controlBytesMax},
		{Name: StreamNotifications, Subjects: []string{NotifySubject, AckSubject}, MaxBytes: controlBytesMax},
		{Name: StreamPositions, Subjects: []string{PositionsSubject}, MaxBytes: controlBytesMax, LastPerSubject: true},
		{Name: StreamLifecycle, Subjects: []string{LifecyclesSubject}, MaxBytes: lifecycleBytesMax, Rolling: true},
		{
			Name: StreamDeliveries, Subjects: []string{DeliveriesSubject}, MaxBytes: deliveryBytesMax,
			LastPerSubject: true, Rolling: true,
		},
	}
}

// Token turns a name into one token of a subject that a person can still read: bytes
// other than letters, digits, '-' and '_' become =XX.
func Token(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// DirectoryID identifies a directory at one site: 16 hexadecimal digits, random.
type DirectoryID string

const journalPrefix = "JOURNAL_"

// IsJournal reports whether a stream is a directory's journal, by its name.
func IsJournal(stream string) bool { return strings.HasPrefix(stream, journalPrefix) }

// JournalStream returns the name of a directory's journal stream. The name is for
// people; the id keeps it unique when a directory is removed and created again.
func JournalStream(name DirectoryName, id DirectoryID) string {
	path := strings.ReplaceAll(strings.TrimPrefix(name.Path, "/"), "/", "_")
	return journalPrefix + shorten(Token(name.Pool)) + "_" + shorten(Token(path)) + "_" + string(id)
}

// IsJournalStream reports whether a stream is the journal of a directory.
func IsJournalStream(name string) bool { return strings.HasPrefix(name, journalPrefix) }

// shorten keeps a stream's name within what the server allows (255 bytes): the two
// shortened parts, the prefix, the id and what joins them.
func shorten(s string) string {
	const bytesInStream = 112
	return s[:min(len(s), bytesInStream)]
}

// JournalSubject returns the subject prefix of a directory's journal. It carries the
// site's name, so that two sites whose servers are linked never store each other's
// entries by accident.
func JournalSubject(site string, id DirectoryID) string {
	return "tidemark.journal." + Token(site) + "." + string(id)
}

// EntriesSubject is where batches of entries are published.
func EntriesSubject(site string, id DirectoryID) string {
	return JournalSubject(site, id) + ".entries"
}

// TagSubject is where tags are claimed.
func TagSubject(site string, id DirectoryID) string { return JournalSubject(site, id) + ".tag" }

// HeadSubject is where the owner of a directory tells its followers, without storing
// it, how far the journal is logged and safe.
func HeadSubject(id DirectoryID) string { return "tidemark.head." + string(id) }

// PositionSubject is where a client of a directory's journal keeps its commit position.
func PositionSubject(id DirectoryID, client string) string {
	return "tidemark.position." + string(id) + "." + Token(client)
}

// HeardSubject is where a follower of a directory keeps how far it knows its source to be.
func HeardSubject(id DirectoryID, client string) string {
	return PositionSubject(id, client) + ".heard"
}

// FenceSubject is where policy fences the holders of a directory that are gone. It has a
// token more than those that peers publish to.
func FenceSubject(id DirectoryID) string { return "tidemark.position." + string(id) + ".holder.fence" }

// HeartbeatSubject is where an instance says that it lives; it is not stored.
func HeartbeatSubject(node, service string) string {
	return "tidemark.heartbeat." + Token(node) + "." + Token(service)
}

// HeartbeatsSubject matches the heartbeats of all services of a node.
func HeartbeatsSubject(node string) string {
	return "tidemark.heartbeat." + Token(node) + ".*"
}

// Where the facts of each kind are published, and what is not stored: for whoever grants it.
const (
	PoolsSubject       = "tidemark.pool.>"
	DirectoriesSubject = "tidemark.directory.>"
	InstancesSubject   = "tidemark.instance.>"
	NotifySubject      = "tidemark.notify.>"
	AckSubject         = "tidemark.ack.>"
	PositionsSubject   = "tidemark.position.>"
	LifecyclesSubject  = "tidemark.lifecycle.>"
	DeliveriesSubject  = deliveryPrefix + ">"
	HeadsSubject       = "tidemark.head.*"
)

// JournalsSubject matches what is published to all journals of a site.
func JournalsSubject(site string) string { return "tidemark.journal." + Token(site) + ".>" }

// HeartbeatSubjects matches the heartbeats of a service of all nodes; "*" is all services.
func HeartbeatSubjects(service string) string { return "tidemark.heartbeat.*." + service }

// ControlSubjects matches what is delivered to a service of all nodes; "*" is all services.
func ControlSubjects(service string) string { return "tidemark.control.*." + service }

// RollCallSubject is where the notifier, and a process that starts, ask all instances for a heartbeat at once.
const RollCallSubject = "tidemark.rollcall"

// ControlSubject is where the notifier delivers acquire and release to an instance.
func ControlSubject(node, service string) string {
	return "tidemark.control." + Token(node) + "." + Token(service)
}
