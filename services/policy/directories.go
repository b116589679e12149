package policy

import (
	"context"
	"errors"
	"time"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/site"
)

const (
	// settleTime is how long a command that is durable already waits for its effect, so
	// that the next command finds it.
	settleTime = 5 * time.Second
	roleTime   = 30 * time.Second
	// holderTime bounds the question to a directory's holder.
	holderTime = 10 * time.Second
)

func (s *Service) directoryCreate(ctx context.Context, r events.DirectoryName) (api.Directory, error) {
	d, err := s.add(ctx, r, func(id events.DirectoryID, n events.DirectoryName) (events.Fact, error) {
		return &events.DirectoryCreated{Directory: id, Pool: n.Pool, Path: n.Path, At: now()}, nil
	})
	if err != nil {
		return api.Directory{}, err
	}
	s.settle(ctx, func() bool {
		decision := Decide(s.state, d.ID, now(), "")
		return decision.Status == Associated || decision.Stalled || decision.Wake > 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Directories[d.ID] == nil {
		return d, nil // removed meanwhile
	}
	return s.state.describe(d.ID, now()), nil
}

// settle waits a while for a condition; in vain is no error.
func (s *Service) settle(ctx context.Context, condition func() bool) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	_ = s.await(ctx, condition)
}

func (s *Service) mirrorAdd(ctx context.Context, r events.DirectoryName) (api.Directory, error) {
	return s.add(ctx, r, func(id events.DirectoryID, n events.DirectoryName) (events.Fact, error) {
		p := s.state.Pools[n.Pool]
		if !p.Mirroring {
			return nil, fault.New(fault.NotReady, "mirroring of the pool %q is off: tidemark mirror enable %s", n.Pool, n.Pool)
		}
		if p.followable() {
			return &events.DirectoryTracked{Directory: id, Pool: n.Pool, Path: n.Path, At: now()}, nil
		}
		return nil, fault.New(fault.NotReady,
			"the pool %q has no peer to follow: import a token that the other site created (tidemark mirror peer import-token %s)", n.Pool, n.Pool)
	})
}

// add brings a directory into being under a free name.
func (s *Service) add(ctx context.Context, r events.DirectoryName,
	fact func(events.DirectoryID, events.DirectoryName) (events.Fact, error),
) (api.Directory, error) {
	name, err := checkName(r)
	if err != nil {
		return api.Directory{}, err
	}
	id, err := site.NewID()
	if err != nil {
		return api.Directory{}, err
	}
	directory := events.DirectoryID(id)
	_, err = s.change(ctx, "add directory "+name.String(), events.StreamDirectories, func() (events.Fact, error) {
		if s.state.Pools[name.Pool] == nil {
			return nil, noPool(name.Pool)
		}
		if err := s.free(name); err != nil {
			return nil, err
		}
		return fact(directory, name)
	})
	if fault.CodeOf(err) == fault.Exists {
		err = s.nameOwner(ctx, name, err)
	}
	if err != nil {
		return api.Directory{}, err
	}
	return s.describeIfKnown(directory, name)
}

// nameOwner says of a directory that exists already which site owns it, as far as its
// holder knows; else it returns err.
func (s *Service) nameOwner(ctx context.Context, name events.DirectoryName, err error) error {
	s.mu.Lock()
	d, gone := s.find(name)
	follows := gone == nil && d.Intent.Role == events.Slave
	s.mu.Unlock()
	if !follows {
		return err
	}
	if status, asked := s.askHolder(ctx, s.bus.Conn(), d.ID, 0); asked == nil && status.Primary != "" {
		return fault.New(fault.Exists, "the directory %s exists already: it follows site %s, its primary", name, status.Primary)
	}
	return err
}

// directoryRemove gives up a directory that is primary here and holds no images.
func (s *Service) directoryRemove(ctx context.Context, r events.DirectoryName) (api.Nothing, error) {
	name, err := checkName(r)
	if err != nil {
		return api.Nothing{}, err
	}
	if err := s.current(ctx); err != nil {
		return api.Nothing{}, err
	}
	s.mu.Lock()
	d, err := s.primary(name)
	var id events.DirectoryID
	var held bool
	if err == nil {
		id = d.ID
		a := s.state.Assignments[id]
		held = a != nil && a.Held
	}
	s.mu.Unlock()
	if err != nil {
		return api.Nothing{}, err
	}
	if held {
		if err := s.checkEmpty(ctx, id, name); err != nil {
			return api.Nothing{}, err
		}
	}
	return api.Nothing{}, s.remove(ctx, name, s.primary, true)
}

// primary finds a directory that is primary here; s.mu is held.
func (s *Service) primary(name events.DirectoryName) (*Directory, error) {
	d, err := s.findStaying(name)
	if err == nil && d.Intent.Role == events.Slave {
		return nil, fault.New(fault.Busy, "the directory %s follows a peer: tidemark mirror remove %s ends that", name, name)
	}
	return d, err
}

// replica finds a directory that follows a peer; s.mu is held.
func (s *Service) replica(name events.DirectoryName) (*Directory, error) {
	d, err := s.findStaying(name)
	if err == nil && d.Intent.Role == events.Master {
		return nil, fault.New(fault.Busy, "the directory %s is not tracked: it is primary here (tidemark dir remove, or demote it first)", name)
	}
	return d, err
}

// checkEmpty asks the holder of a directory whether it holds images.
func (s *Service) checkEmpty(ctx context.Context, id events.DirectoryID, name events.DirectoryName) error {
	ctx, cancel := context.WithTimeout(ctx, holderTime)
	defer cancel()
	images, err := api.Call[[]api.Image](ctx, s.bus.Conn(), api.HolderSubject(id, api.ImageList), api.Nothing{})
	switch {
	case fault.CodeOf(err) == fault.Timeout:
		return fault.New(fault.NotReady, "whether the directory %s holds images is unknown: nobody who holds it answers", name)
	case err != nil:
		return fault.New(fault.CodeOf(err), "list the images of %s: %w", name, err)
	case len(images) > 0:
		return fault.New(fault.Busy, "the directory %s holds %s: remove them first", name, plural(len(images), "image", "images"))
	}
	return nil
}

// mirrorRemove gives up the copy of a directory that follows a peer.
func (s *Service) mirrorRemove(ctx context.Context, r events.DirectoryName) (api.Nothing, error) {
	name, err := checkName(r)
	if err != nil {
		return api.Nothing{}, err
	}
	return api.Nothing{}, s.remove(ctx, name, s.replica, false)
}

func (s *Service) remove(ctx context.Context, name events.DirectoryName, find func(events.DirectoryName) (*Directory, error), ifEmpty bool) error {
	var id events.DirectoryID
	seq, err := s.change(ctx, "remove directory "+name.String(), events.StreamDirectories, func() (events.Fact, error) {
		d, err := find(name)
		if err != nil {
			return nil, err
		}
		id = d.ID
		return &events.DirectoryRemoved{Directory: d.ID, Pool: name.Pool, IfEmpty: ifEmpty, At: now()}, nil
	})
	if err != nil {
		return err
	}
	var refused error
	s.settle(ctx, func() bool {
		d := s.state.Directories[id]
		if d != nil && d.Refusal.Sequence > seq {
			refused = fault.New(fault.Code(d.Refusal.Code), "the directory %s is not removed: %s", name, d.Refusal.Message)
		}
		return d == nil || refused != nil
	})
	return refused
}

// mirrorPromote makes a directory primary here. Unless it is forced, the pool's other
// sites are asked first: what has arrived here may not be the newest turn.
func (s *Service) mirrorPromote(ctx context.Context, r api.Promote) (api.Directory, error) {
	name, err := checkName(r.DirectoryName)
	if err != nil {
		return api.Directory{}, err
	}
	if r.Force {
		return s.promoteForced(ctx, name)
	}
	id, proposal, err := s.propose(ctx, name)
	if err != nil {
		return api.Directory{}, err
	}
	defer s.withdraw(ctx, id, proposal) // unless it was carried out
	if err := s.consent(ctx, id, name); err != nil {
		return api.Directory{}, err
	}
	return s.changeRole(ctx, name, events.Master, func(d *Directory) (events.Fact, error) {
		if d.Intent.Role == events.Master {
			return nil, alreadyIs(d.Name, "primary", newView(s.state, d.ID, now(), "").promotes())
		}
		if d.Proposal.Sequence != proposal || now().Sub(d.Proposal.At) > consentTime {
			return nil, fault.New(fault.Busy, "promote %s: the consent of the other sites is too old: try again", name)
		}
		return &events.PromotionRequested{Directory: d.ID, Pool: d.Name.Pool, At: now()}, nil
	})
}

// promoteForced asks nobody. An orderly promotion that is under way becomes a forced one.
func (s *Service) promoteForced(ctx context.Context, name events.DirectoryName) (api.Directory, error) {
	return s.changeRole(ctx, name, events.Master, func(d *Directory) (events.Fact, error) {
		if d.Intent.Role == events.Master {
			underWay := newView(s.state, d.ID, now(), "").promotes()
			if !underWay || d.Intent.Force {
				return nil, alreadyIs(d.Name, "primary", underWay)
			}
		}
		return &events.PromotionRequested{Directory: d.ID, Pool: d.Name.Pool, Force: true, At: now()}, nil
	})
}

func alreadyIs(name events.DirectoryName, what string, underWay bool) error {
	if underWay {
		return fault.New(fault.Busy, "the directory %s is being made %s already", name, what)
	}
	return fault.New(fault.Busy, "the directory %s is already %s", name, what)
}

func (s *Service) mirrorDemote(ctx context.Context, r events.DirectoryName) (api.Directory, error) {
	return s.changeRole(ctx, r, events.Slave, func(d *Directory) (events.Fact, error) {
		if d.Intent.Role == events.Slave {
			return nil, fault.New(fault.NotPrimary, "the directory %s is not primary here", d.Name)
		}
		return &events.DemotionRequested{Directory: d.ID, Pool: d.Name.Pool, At: now()}, nil
	})
}

// changeRole makes the wish durable and waits until it is fulfilled or refused.
func (s *Service) changeRole(ctx context.Context, r events.DirectoryName, role events.Role,
	fact func(*Directory) (events.Fact, error),
) (api.Directory, error) {
	name, err := checkName(r)
	if err != nil {
		return api.Directory{}, err
	}
	var id events.DirectoryID
	seq, err := s.change(ctx, "make "+name.String()+" a "+string(role), events.StreamDirectories, func() (events.Fact, error) {
		d, err := s.findStaying(name)
		if err != nil {
			return nil, err
		}
		f, err := fact(d)
		if err != nil {
			return nil, err
		}
		if err := newView(s.state, d.ID, now(), "").placeable(role); err != nil {
			return nil, err
		}
		id = d.ID
		return f, nil
	})
	if err != nil {
		return api.Directory{}, err
	}
	return s.awaitRole(ctx, id, name, role, seq)
}

// placeable returns an error if no node could hold a directory in a role, or none with its
// newest copy.
func (v *view) placeable(role events.Role) error {
	if role == events.Master && v.copyLacksJournal() {
		return fault.New(fault.NotReady, "the newest copy of %s is at node %s, where no journal service runs: start one there", v.d.Name, v.d.Mapping.Node)
	}
	if v.canPlace(role) {
		return nil
	}
	return fault.New(fault.NotReady, "no node runs the %s service, which would hold %s then", events.ServiceOf(role), v.d.Name)
}

func (s *Service) awaitRole(ctx context.Context, id events.DirectoryID, name events.DirectoryName, role events.Role, seq uint64) (api.Directory, error) {
	ctx, cancel := context.WithTimeout(ctx, roleTime)
	defer cancel()
	var out api.Directory
	var outcome error
	err := s.await(ctx, func() bool {
		d := s.state.Directories[id]
		switch {
		case d == nil || d.Removing:
			outcome = fault.New(fault.Busy, "the directory %s was removed meanwhile", name)
		case d.Refusal.Sequence > seq:
			outcome = fault.New(fault.Code(d.Refusal.Code), "the directory %s cannot be made %s: %s", name, roleName(role), d.Refusal.Message)
		case d.Intent.Role != role || d.Intent.Sequence > seq:
			outcome = fault.New(fault.Busy, "another change of role of %s took the place of this one", name)
		default:
			out = s.state.describe(id, now())
			return out.State == "mapped" && out.Role == role
		}
		return true
	})
	if errors.Is(err, context.DeadlineExceeded) {
		if out.Error != "" {
			return out, fault.New(fault.Timeout, "the directory %s is not %s yet, and still tries to be: %s", name, roleName(role), out.Error)
		}
		return out, fault.New(fault.Timeout, "the directory %s is not %s yet, and still tries to be: it is %s", name, roleName(role), out.State)
	}
	if err != nil {
		return out, err
	}
	return out, outcome
}

func roleName(r events.Role) string {
	if r == events.Master {
		return "primary"
	}
	return "a replica"
}
