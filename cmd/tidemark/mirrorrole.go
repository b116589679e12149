package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

const (
	// rolesAtATime bounds the directories of a pool that change their role at a time.
	rolesAtATime = 10
	// arriveTime is how long a demotion waits to see it arrive at the other sites.
	arriveTime = time.Second
	// roleAge is how often a holder is asked whether it has its new role.
	roleAge = 10 * time.Millisecond
)

// roleChange is what became of one directory that was to be promoted or demoted.
type roleChange struct {
	api.Directory
	// Code is the error's, if it failed; the directory's own error then says why.
	Code fault.Code `json:"code,omitempty"`
	Lost *loss      `json:"lost,omitempty"` // by a promotion with force
	// Notes are what an operator should know about it.
	Notes []string `json:"notes,omitempty"`
}

// roleVerb is what promote and demote differ in.
type roleVerb struct {
	role   events.Role // that a directory then has
	done   string
	change func(ctx context.Context, s *client, name events.DirectoryName) (roleChange, error)
	// notes are what an operator should know when it is done; may be nil.
	notes func(ctx context.Context, s *client, d api.Directory) []string
}

func newMirrorPromote(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "promote POOL[/DIR]", Short: "Make this site the primary of a directory, or of all that it follows of a pool", Args: takes(1, 1),
		Long: `Promote makes this site the primary of a directory. It is refused while another site
is primary, or has anything of the directory that has not arrived here; with --force it
is not, and what that loses is said first. POOL alone means every replica of the pool,
and POOL/ the pool's root directory.`,
	}
	cmd.Flags().BoolVar(&force, "force", false, "do so although the present primary has not given it up (it may hold writes that are then refused)")
	cmd.RunE = c.changeRoles(&roleVerb{
		role: events.Master, done: "promoted",
		change: func(ctx context.Context, s *client, name events.DirectoryName) (roleChange, error) {
			var lost *loss
			if force {
				lost = s.lossOf(ctx, name)
			}
			if lost != nil {
				c.say("%s: %s", name, lost)
			}
			d, err := s.promote(ctx, name, force)
			return roleChange{Directory: d, Lost: lost}, err
		},
	})
	return cmd
}

func newMirrorDemote(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use: "demote POOL[/DIR]", Short: "Give up a directory at this site, or all that it is primary of in a pool, so that another can be promoted", Args: takes(1, 1),
		Long: `Demote ends this site's ownership of a directory in its journal. It says which of the
pool's other sites do not have that end yet: they cannot be promoted before. POOL alone
means every directory of the pool that is primary here, and POOL/ the pool's root directory.`,
	}
	cmd.RunE = c.changeRoles(&roleVerb{
		role: events.Slave, done: "demoted",
		change: func(ctx context.Context, s *client, name events.DirectoryName) (roleChange, error) {
			d, err := call[api.Directory](ctx, s, api.MirrorDemote, name)
			if err == nil {
				d, err = s.awaitRole(ctx, name, d, events.Slave)
			}
			return roleChange{Directory: d}, err
		},
		notes: whoLacksTheEnd,
	})
	return cmd
}

// changeRoles makes a command's code of a change of role: of one directory, or of all
// those of a pool that are in the other role.
func (c *cli) changeRoles(v *roleVerb) func(*cobra.Command, []string) error {
	return c.request(func(ctx context.Context, s *client, args []string) error {
		name, err := parseDirectory(args[0])
		if err != nil {
			return err
		}
		if !strings.Contains(args[0], "/") {
			return c.changePoolRoles(ctx, s, v, name.Pool)
		}
		change, err := c.changeRole(ctx, s, v, name)
		if err != nil {
			return err
		}
		return c.show(change, func(t *table) { directoryRows(t, change.Directory) })
	})
}

// changePoolRoles goes on past single failures, and returns the first one.
func (c *cli) changePoolRoles(ctx context.Context, s *client, v *roleVerb, pool string) error {
	all, err := call[[]api.Directory](ctx, s, api.DirectoryList, api.PoolFilter{Pool: pool})
	if err != nil {
		return err
	}
	var dirs []api.Directory
	for _, d := range all {
		if d.Role != v.role {
			dirs = append(dirs, d)
		}
	}
	changes, errs := make([]roleChange, len(dirs)), make([]error, len(dirs))
	slots := make(chan struct{}, rolesAtATime)
	var changing sync.WaitGroup
	for i, d := range dirs {
		slots <- struct{}{}
		changing.Go(func() {
			defer func() { <-slots }()
			change, err := c.changeRole(ctx, s, v, events.DirectoryName{Pool: d.Pool, Path: d.Path})
			if err != nil {
				change.Directory, change.Code = d, fault.CodeOf(err)
				change.Error = oneLine(err.Error())
			}
			changes[i], errs[i] = change, err
		})
	}
	changing.Wait()
	if err := c.show(list(changes), func(t *table) { roleRows(t, changes) }); err != nil {
		return err
	}
	return c.tellDone(v, pool, errs)
}

// changeRole changes the role of one directory, and says what should be known about it.
func (c *cli) changeRole(ctx context.Context, s *client, v *roleVerb, name events.DirectoryName) (roleChange, error) {
	change, err := v.change(ctx, s, name)
	if err == nil && v.notes != nil {
		change.Notes = v.notes(ctx, s, change.Directory)
	}
	for _, note := range change.Notes {
		c.say("note: %s: %s", name, note)
	}
	return change, err
}

func roleRows(t *table, changes []roleChange) {
	dirs := make([]api.Directory, len(changes))
	for i, change := range changes {
		dirs[i] = change.Directory
	}
	directoryRows(t, dirs...)
}

// tellDone says how many of a pool's directories were done, and returns an error if any
// was not: with its code if all failures have the same.
func (c *cli) tellDone(v *roleVerb, pool string, errs []error) error {
	var first error
	failed, code := 0, fault.Code("")
	for _, err := range errs {
		if err == nil {
			continue
		}
		if failed++; failed == 1 {
			first, code = err, fault.CodeOf(err)
		}
		if fault.CodeOf(err) != code {
			code = fault.Internal
		}
	}
	c.say("%s %d of %d directories of pool %s", v.done, len(errs)-failed, len(errs), pool)
	if failed == 0 {
		return nil
	}
	return fault.New(code, "%d of %d directories of pool %s were not %s; the first: %w", failed, len(errs), pool, v.done, first)
}

// whoLacksTheEnd says which of the pool's other sites do not have a demotion yet, after a
// moment in which it may arrive.
func whoLacksTheEnd(ctx context.Context, s *client, d api.Directory) []string {
	ctx, cancel := context.WithTimeout(ctx, 3*arriveTime)
	defer cancel()
	status, err := hold[api.Status](ctx, s, d, api.DirectoryStatus, api.Nothing{})
	if err != nil {
		return nil
	}
	for deadline := time.Now().Add(arriveTime); ; {
		copies, err := call[[]api.PeerCopy](ctx, s, api.MirrorPeers, events.DirectoryName{Pool: d.Pool, Path: d.Path})
		if err != nil {
			return nil
		}
		lacking := lacksTheEnd(copies, status.Position)
		if len(lacking) == 0 || time.Now().After(deadline) || pause(ctx, retryWait) != nil {
			return lacking
		}
	}
}

// lacksTheEnd returns a note on each site that cannot be promoted yet in order.
func lacksTheEnd(copies []api.PeerCopy, end events.Mark) []string {
	var notes []string
	for _, p := range copies {
		switch {
		case p.Error != "":
			notes = append(notes, fmt.Sprintf("whether site %s has everything is not known: %s", p.Site, p.Error))
		case p.Role == events.Slave && p.Position.Position < end.Position:
			notes = append(notes, fmt.Sprintf("site %s has it up to %s, and has yet to get everything up to %s: it can be promoted then",
				p.Site, p.Position.Position, end.Position))
		}
	}
	return notes
}

// promote asks for a promotion and returns when the directory takes writes here.
func (s *client) promote(ctx context.Context, name events.DirectoryName, force bool) (api.Directory, error) {
	d, err := call[api.Directory](ctx, s, api.MirrorPromote, api.Promote{DirectoryName: name, Force: force})
	if err != nil {
		return d, err
	}
	return s.awaitRole(ctx, name, d, events.Master)
}

// The map's states of a directory that is where it should be, or that nobody can take.
const (
	mapped  = "mapped"
	stalled = "stalled"
)

// awaitRole waits until a directory has a role at this site and its holder answers in
// it. asked is the map's answer to the request; a failure that the map notes after it
// ends the wait.
func (s *client) awaitRole(ctx context.Context, name events.DirectoryName, asked api.Directory, role events.Role) (api.Directory, error) {
	for d := asked; ; {
		if d.Role == role && d.State == mapped {
			status, err := hold[api.Status](ctx, s, d, api.DirectoryStatus, api.Nothing{})
			if err == nil && status.Role == role {
				return d, nil
			}
		}
		if d.Error != "" && d.Error != asked.Error {
			return d, fault.New(fault.NotReady, "directory %s: %s", name, d.Error)
		}
		if pause(ctx, roleAge) != nil {
			return d, fault.New(fault.Timeout, "directory %s is not %s yet (%s); `tidemark mirror status %s` shows how it goes on", name, role, d.State, name)
		}
		var err error
		if d, err = call[api.Directory](ctx, s, api.DirectoryResolve, name); err != nil {
			return d, err
		}
	}
}
