package policy

import (
	"maps"
	"time"

	"tidemark/events"
)

// State is the fold of the streams POOLS, DIRECTORIES, INSTANCES and NOTIFICATIONS. Each
// fact changes only the part that belongs to its stream, so it does not matter how the
// streams interleave: a restart folds to the same state.
type State struct {
	// POOLS
	Site  SiteIdentity
	Pools map[string]*Pool
	// DIRECTORIES
	Directories map[events.DirectoryID]*Directory
	Names       map[events.DirectoryName]events.DirectoryID
	// Mapped are the directories that are mapped to each service of a node.
	Mapped map[Key]map[events.DirectoryID]bool
	// Spreads is how directories lie over the nodes, by service, and Pooled how many there are
	// of each pool.
	Spreads map[string]Spread
	Pooled  map[poolShare]int
	// Forgotten are the directories whose removal is complete. Whoever held one while it
	// was taken for dead lets go of it, and deletes its copy, when it is back.
	Forgotten map[events.DirectoryID]*Directory
	// Epochs are the last ones of forgotten directories, by name: another directory of that
	// name goes on from there.
	Epochs map[events.DirectoryName]uint64
	// POOLS
	Placement Placement
	// POSITIONS: what directories amount to
	Measures map[events.DirectoryID]Measure
	// Told is what each node told last of its copy.
	Told map[events.DirectoryID]map[string]Measure
	// INSTANCES
	Instances map[Key]Instance // those alive
	Silent    map[Key]Instance // those that fell silent and did not come back; Since is when
	// NOTIFICATIONS
	Assignments map[events.DirectoryID]*Assignments
}

// Key names a service of a node.
type Key struct{ Node, Service string }

// SiteIdentity is the site as its log has it.
type SiteIdentity struct {
	UUID, Name string
	Number     uint16
}

// Pool is a named set of directories.
type Pool struct {
	Mirroring bool
	Tokens    map[string]Token            // by public id
	Peers     map[string]events.PeerAdded // by UUID
}

// Token is a bootstrap token that was handed out.
type Token struct {
	SecretHash []byte
	Expires    events.Instant
	// Bearer is the UUID of the first site that joined with it: it lets in no other.
	Bearer string
	// Void is set when that site was removed: its token must not let it in again.
	Void bool
}

// Instance is a service of a node that is alive.
type Instance struct {
	Incarnation string
	Since       events.Instant
}

// Directory is what the log says that a directory should be.
type Directory struct {
	ID       events.DirectoryID
	Name     events.DirectoryName
	Intent   Intent
	Removing bool
	// IfEmpty: it is removed only if it holds no images.
	IfEmpty bool
	// Mapping is the newest; its epoch is zero before the first.
	Mapping Mapping
	// Fenced is the greatest epoch whose holders can say nothing any more; see fencing.go.
	Fenced uint64
	// Refusal is the newest refused change of role or removal.
	Refusal Refusal
	Resync  Resync
	// Proposal is the orderly promotion that the other sites are asked about; zero: none.
	Proposal Proposal
	// Settings is how a replica follows.
	Settings Settings
}

// Proposal is an orderly promotion that waits for the consent of the other sites.
type Proposal struct {
	Sequence uint64
	At       events.Instant
}

// Resync is what an operator asked to be given up.
type Resync struct {
	Last uint64 // number of the newest request
	// Wanted is Last while the request is in force. A promotion that is asked for after
	// it ends it: what the copy has is then to be kept.
	Wanted      uint64
	KeepRefused bool
}

// Settings is how a replica follows; the fields are those of [events.DirectoryConfigured].
type Settings struct {
	Delay, TargetRPO time.Duration
	SyncRate         uint64 // bytes per second
}

// Intent is the role that the site wants a directory to have.
type Intent struct {
	Role events.Role
	// Promoted is set when an operator asked for the role of a master, so that the
	// first acquire in it is a promotion; Force when that needs no consent.
	Promoted, Force bool
	Sequence        uint64 // of the fact in DIRECTORIES
}

// Mapping says who is to hold a directory, in which role.
type Mapping struct {
	Node  string
	Role  events.Role
	Epoch uint64
	At    events.Instant // when the node got the role: mapped to it again, it keeps this
}

// Placement is how replicas are spread over nodes; see [events.PlacementConfigured].
type Placement struct {
	Throttle time.Duration
	By       events.Balance
}

// Measure is what a copy of a directory amounts to; see [events.DirectoryMeasured].
type Measure struct {
	Node        string
	Bytes, Rate uint64
	Complete    bool
}

// Refusal says which change of role or removal was refused.
type Refusal struct {
	Sequence      uint64
	Operation     string
	Code, Message string
}

// NewState returns the state of empty streams.
func NewState() *State {
	return &State{
		Pools:       map[string]*Pool{},
		Directories: map[events.DirectoryID]*Directory{},
		Names:       map[events.DirectoryName]events.DirectoryID{},
		Mapped:      map[Key]map[events.DirectoryID]bool{},
		Spreads:     map[string]Spread{},
		Pooled:      map[poolShare]int{},
		Placement:   Placement{DefaultThrottle, events.BalanceCount},
		Measures:    map[events.DirectoryID]Measure{},
		Told:        map[events.DirectoryID]map[string]Measure{},
		Forgotten:   map[events.DirectoryID]*Directory{},
		Epochs:      map[events.DirectoryName]uint64{},
		Instances:   map[Key]Instance{},
		Silent:      map[Key]Instance{},
		Assignments: map[events.DirectoryID]*Assignments{},
	}
}

// Evolve adds one fact. seq is its sequence in its stream. Facts that make no sense in
// the state change nothing.
func (s *State) Evolve(seq uint64, fact events.Fact) {
	switch f := fact.(type) {
	case *events.InstanceAdded:
		k := Key{f.Node, f.Service}
		s.Instances[k] = Instance{f.Incarnation, f.At}
		delete(s.Silent, k)
		s.changeShare(k, func(h *Share) { h.Alive = true })
	case *events.InstanceRemoved:
		if k := (Key{f.Node, f.Service}); s.Instances[k].Incarnation == f.Incarnation {
			delete(s.Instances, k)
			if f.Reason == events.ReasonSilent {
				s.Silent[k] = Instance{f.Incarnation, f.At}
			}
			s.changeShare(k, func(h *Share) { h.Alive = false })
		}
	case *events.AcquireRequested, *events.ReleaseRequested:
		r, _ := requestOf(fact)
		s.assignments(r.Assignment.Directory).requested(r)
	case *events.AcquireAcknowledged:
		s.assignments(f.Directory).acquired(f)
	case *events.ReleaseAcknowledged:
		s.assignments(f.Directory).released(f)
	case *events.DirectoryMeasured:
		s.measured(f)
	default:
		s.evolvePool(fact)
		s.evolveDirectory(seq, fact)
	}
}

func (s *State) assignments(d events.DirectoryID) *Assignments {
	a := s.Assignments[d]
	if a == nil {
		a = newAssignments()
		s.Assignments[d] = a
	}
	return a
}

func (s *State) evolvePool(fact events.Fact) {
	switch f := fact.(type) {
	case *events.SiteNumbered:
		s.Site = SiteIdentity{f.Site, f.Name, f.Number}
	case *events.PlacementConfigured:
		s.weigh(func() { s.Placement = placementOf(f) })
	case *events.PoolCreated:
		if s.Pools[f.Pool] == nil && events.CheckName(f.Pool) == nil {
			s.Pools[f.Pool] = &Pool{Tokens: map[string]Token{}, Peers: map[string]events.PeerAdded{}}
		}
	case *events.PoolRemoved:
		delete(s.Pools, f.Pool)
	case *events.MirrorEnabled:
		s.changePool(f.Pool, func(p *Pool) { p.Mirroring = true })
	case *events.MirrorDisabled:
		s.changePool(f.Pool, func(p *Pool) { p.Mirroring = false })
	case *events.TokenCreated:
		s.changePool(f.Pool, func(p *Pool) { p.Tokens[f.Token] = Token{SecretHash: f.SecretHash, Expires: f.Expires} })
	case *events.PeerAdded:
		s.changePool(f.Pool, func(p *Pool) { p.added(f) })
	case *events.PeerRemoved:
		s.changePool(f.Pool, func(p *Pool) { p.removed(f.Peer) })
	}
}

func (p *Pool) added(f *events.PeerAdded) {
	p.Peers[f.Peer] = *f
	if t, ok := p.Tokens[f.Token]; ok && t.Bearer == "" {
		t.Bearer = f.Peer
		p.Tokens[f.Token] = t
	}
}

func (p *Pool) removed(peer string) {
	delete(p.Peers, peer)
	for id, t := range p.Tokens {
		if t.Bearer == peer {
			t.Void = true
			p.Tokens[id] = t
		}
	}
}

func (s *State) changePool(name string, change func(*Pool)) {
	if p := s.Pools[name]; p != nil {
		change(p)
	}
}

func (s *State) evolveDirectory(seq uint64, fact events.Fact) {
	switch f := fact.(type) {
	case *events.DirectoryCreated:
		s.addDirectory(f.Directory, events.DirectoryName{Pool: f.Pool, Path: f.Path}, Intent{Role: events.Master, Sequence: seq})
	case *events.DirectoryTracked:
		s.addDirectory(f.Directory, events.DirectoryName{Pool: f.Pool, Path: f.Path}, Intent{Role: events.Slave, Sequence: seq})
	case *events.DirectoryRemoved:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Removing, d.IfEmpty = true, f.IfEmpty })
	case *events.RemovalRefused:
		s.changeDirectory(f.Directory, func(d *Directory) {
			d.Removing, d.IfEmpty = false, false
			d.Refusal = Refusal{seq, f.Operation, f.Code, f.Message}
		})
	case *events.DirectoryForgotten:
		s.forget(f.Directory)
	case *events.DirectoryMapped:
		s.changeDirectory(f.Directory, func(d *Directory) { s.mapped(d, Mapping{f.Node, f.Role, f.Epoch, f.At}) })
	case *events.DirectoryFenced:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Fenced = max(d.Fenced, f.Epoch) })
	case *events.PromotionRequested:
		s.changeDirectory(f.Directory, func(d *Directory) {
			d.Intent = Intent{Role: events.Master, Promoted: true, Force: f.Force, Sequence: seq}
			d.Resync.Wanted, d.Proposal = 0, Proposal{}
		})
	case *events.DemotionRequested:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Intent = Intent{Role: events.Slave, Sequence: seq} })
	case *events.RoleChangeRefused:
		s.changeDirectory(f.Directory, func(d *Directory) {
			d.Intent = Intent{Role: f.Role, Sequence: d.Intent.Sequence}
			d.Refusal = Refusal{seq, f.Operation, f.Code, f.Message}
		})
	case *events.PromotionProposed:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Proposal = Proposal{seq, f.At} })
	case *events.PromotionWithdrawn:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Proposal = Proposal{} })
	case *events.ResyncRequested:
		s.changeDirectory(f.Directory, func(d *Directory) {
			if f.Number > d.Resync.Last {
				d.Resync = Resync{f.Number, f.Number, f.KeepRefused}
			}
		})
	case *events.DirectoryConfigured:
		s.changeDirectory(f.Directory, func(d *Directory) { d.Settings = Settings{f.Delay, f.TargetRPO, f.SyncRate} })
	}
}

func (s *State) addDirectory(id events.DirectoryID, name events.DirectoryName, intent Intent) {
	clean, err := events.CleanPath(name.Path)
	_, taken := s.Names[name]
	if err != nil || clean != name.Path || events.CheckName(name.Pool) != nil || taken ||
		id == "" || events.Token(string(id)) != string(id) || s.Directories[id] != nil {
		return
	}
	d := &Directory{ID: id, Name: name, Intent: intent}
	if former := s.Forgotten[id]; former != nil {
		d.Fenced = former.Fenced
	}
	delete(s.Forgotten, id)
	s.Directories[id] = d
	s.Names[name] = id
}

func (s *State) changeDirectory(id events.DirectoryID, change func(*Directory)) {
	if d := s.Directories[id]; d != nil {
		change(d)
	}
}

// mapped takes a mapping over if its epoch is newer.
func (s *State) mapped(d *Directory, m Mapping) {
	if m.Epoch <= d.Mapping.Epoch {
		return
	}
	if before := d.Mapping; before.key() == m.key() {
		m.At = before.At
	}
	s.moveLoad(d, m)
	s.unmap(d)
	d.Mapping = m
	if s.Mapped[m.key()] == nil {
		s.Mapped[m.key()] = map[events.DirectoryID]bool{}
	}
	s.Mapped[m.key()][d.ID] = true
}

func (s *State) unmap(d *Directory) {
	k := d.Mapping.key()
	if delete(s.Mapped[k], d.ID); len(s.Mapped[k]) == 0 {
		delete(s.Mapped, k)
	}
}

func (s *State) forget(id events.DirectoryID) {
	s.changeDirectory(id, func(d *Directory) {
		s.load(d, d.Mapping, -1)
		s.unmap(d)
		delete(s.Directories, id)
		delete(s.Names, d.Name)
		d.Removing = true
		s.Forgotten[id] = d
		s.Epochs[d.Name] = max(s.Epochs[d.Name], d.Mapping.Epoch)
	})
}

func (m Mapping) key() Key { return Key{m.Node, events.ServiceOf(m.Role)} }

// directoriesIn counts the directories of a pool.
func (s *State) directoriesIn(pool string) int {
	n := 0
	for d := range maps.Values(s.Directories) {
		if d.Name.Pool == pool {
			n++
		}
	}
	return n
}
