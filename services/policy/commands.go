package policy

import (
	"context"
	"fmt"
	"strings"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// change makes one command durable: check looks at the newest state and returns the fact
// that says what was asked, or nil if that is so already.
func (s *Service) change(ctx context.Context, what, stream string, check func() (events.Fact, error)) (uint64, error) {
	if err := s.current(ctx); err != nil {
		return 0, err
	}
	seq, err := s.commit(ctx, func() (string, events.Fact, error) {
		f, err := check()
		return stream, f, err
	})
	if err != nil {
		if code := codeOf(err); code == fault.Internal || code == fault.NoSpace || code == fault.Timeout {
			return 0, fault.New(code, "%s: %w", what, err)
		}
		return 0, err
	}
	return seq, nil
}

// changePool is change for a pool that must exist.
func (s *Service) changePool(ctx context.Context, what, pool string, check func(*Pool) (events.Fact, error)) error {
	_, err := s.change(ctx, what+" "+pool, events.StreamPools, func() (events.Fact, error) {
		p := s.state.Pools[pool]
		if p == nil {
			return nil, noPool(pool)
		}
		return check(p)
	})
	return err
}

func (s *Service) describePool(name string) api.Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.pool(name)
}

func (s *Service) poolCreate(ctx context.Context, r api.Pool) (api.Pool, error) {
	if err := events.CheckName(r.Pool); err != nil {
		return api.Pool{}, fault.New(fault.Usage, "pool: %w", err)
	}
	_, err := s.change(ctx, "create pool "+r.Pool, events.StreamPools, func() (events.Fact, error) {
		if s.state.Pools[r.Pool] != nil {
			return nil, fault.New(fault.Exists, "the pool %q exists already", r.Pool)
		}
		return &events.PoolCreated{Pool: r.Pool, At: now()}, nil
	})
	if err != nil {
		return api.Pool{}, err
	}
	return s.describePool(r.Pool), nil
}

func (s *Service) poolRemove(ctx context.Context, r api.Pool) (api.Nothing, error) {
	return api.Nothing{}, s.changePool(ctx, "remove pool", r.Pool, func(*Pool) (events.Fact, error) {
		if n := s.state.directoriesIn(r.Pool); n > 0 {
			return nil, fault.New(fault.Busy, "the pool %q holds %s: remove them first", r.Pool, plural(n, "directory", "directories"))
		}
		return &events.PoolRemoved{Pool: r.Pool, At: now()}, nil
	})
}

func (s *Service) mirrorEnable(ctx context.Context, r api.Pool) (api.Pool, error) {
	err := s.changePool(ctx, "enable mirroring of", r.Pool, func(p *Pool) (events.Fact, error) {
		if p.Mirroring {
			return nil, nil
		}
		return &events.MirrorEnabled{Pool: r.Pool, At: now()}, nil
	})
	if err != nil {
		return api.Pool{}, err
	}
	return s.describePool(r.Pool), nil
}

// mirrorDisable ends mirroring both ways: nobody follows the pool's directories, and those
// that follow a peer stand still. Peers, map and copies stay, and go on when it is enabled.
func (s *Service) mirrorDisable(ctx context.Context, r api.Pool) (api.Pool, error) {
	err := s.changePool(ctx, "disable mirroring of", r.Pool, func(p *Pool) (events.Fact, error) {
		if !p.Mirroring {
			return nil, nil
		}
		return &events.MirrorDisabled{Pool: r.Pool, At: now()}, nil
	})
	if err != nil {
		return api.Pool{}, err
	}
	return s.describePool(r.Pool), nil
}

// checkName checks and normalises the name of a directory.
func checkName(n events.DirectoryName) (events.DirectoryName, error) {
	if err := events.CheckName(n.Pool); err != nil {
		return n, fault.New(fault.Usage, "pool: %w", err)
	}
	if !strings.HasPrefix(n.Path, "/") {
		return n, fault.New(fault.Usage, "directory: the path %q is not absolute", n.Path)
	}
	path, err := events.CleanPath(n.Path)
	if err != nil {
		return n, fault.New(fault.Usage, "directory: %w", err)
	}
	return events.DirectoryName{Pool: n.Pool, Path: path}, nil
}

// find returns a directory by name; s.mu is held.
func (s *Service) find(name events.DirectoryName) (*Directory, error) {
	if s.state.Pools[name.Pool] == nil {
		return nil, noPool(name.Pool)
	}
	id, ok := s.state.Names[name]
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no directory %s", name)
	}
	return s.state.Directories[id], nil
}

// findStaying is find for a directory that is not being removed.
func (s *Service) findStaying(name events.DirectoryName) (*Directory, error) {
	d, err := s.find(name)
	if err == nil && d.Removing {
		return nil, fault.New(fault.Busy, "the directory %s is being removed", name)
	}
	return d, err
}

// free says why a name cannot be given to a new directory; s.mu is held.
func (s *Service) free(name events.DirectoryName) error {
	id, taken := s.state.Names[name]
	if !taken {
		return nil
	}
	d := s.state.Directories[id]
	switch {
	case d.Removing:
		return fault.New(fault.Busy, "the directory %s is being removed: try again when that is done", name)
	case d.Intent.Role == events.Slave:
		return fault.New(fault.Exists, "the directory %s exists already: it follows a peer", name)
	}
	return fault.New(fault.Exists, "the directory %s exists already: it is primary here", name)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
