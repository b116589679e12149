package events

// The services that hold directories, as instances name them.
const (
	ServiceJournal  = "journal"
	ServiceReplayer = "replayer"
)

// ServiceOf returns the service that holds a directory in a role.
func ServiceOf(r Role) string {
	if r == Master {
		return ServiceJournal
	}
	return ServiceReplayer
}

// Heartbeat says that one service of a node lives. It is published every second and
// not stored.
type Heartbeat struct {
	Node        string `json:"node"`
	Service     string `json:"service"`
	Incarnation string `json:"incarnation"` // new at each start of the process
	// Data is the id of the process's data folder; empty from an older program.
	Data    string  `json:"data,omitempty"`
	Leaving bool    `json:"leaving"` // the last one, of a clean stop
	At      Instant `json:"at"`
}

// InstanceAdded says that a service of a node was heard for the first time, or under
// a new incarnation.
type InstanceAdded struct {
	Node        string  `json:"node"`
	Service     string  `json:"service"`
	Incarnation string  `json:"incarnation"`
	At          Instant `json:"at"`
}

// ReasonSilent is why an instance was removed that was not heard any more.
const ReasonSilent = "silent"

// InstanceRemoved says that a service of a node left or fell silent.
type InstanceRemoved struct {
	Node        string  `json:"node"`
	Service     string  `json:"service"`
	Incarnation string  `json:"incarnation"`
	Reason      string  `json:"reason"` // "left" or [ReasonSilent]
	At          Instant `json:"at"`
}

func instanceSubject(node, service string) string {
	return "tidemark.instance." + Token(node) + "." + Token(service)
}

func (*Heartbeat) Kind() string       { return "heartbeat" }
func (*InstanceAdded) Kind() string   { return "instance_added" }
func (*InstanceRemoved) Kind() string { return "instance_removed" }

func (f *Heartbeat) Subject() string       { return HeartbeatSubject(f.Node, f.Service) }
func (f *InstanceAdded) Subject() string   { return instanceSubject(f.Node, f.Service) }
func (f *InstanceRemoved) Subject() string { return instanceSubject(f.Node, f.Service) }
