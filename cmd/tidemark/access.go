package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/access"
	"tidemark/internal/fault"
	"tidemark/internal/keys"
)

const (
	userOperator = "operator"
	userMonitor  = "monitor"
	userGate     = "gate"

	userListBytesMax = 1 << 20
)

// newAccess makes what a NATS server needs to be told that Tidemark does not embed.
func newAccess(c *cli) *cobra.Command {
	return group("access", "Keys, and the users of a NATS server that runs by itself",
		newAccessKey(c), newAccessUsers(c),
	)
}

// userKey is the public key of a user.
type userKey struct {
	User string `json:"user"`
	Key  string `json:"key"`
}

func newAccessKey(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "key FILE…", Short: "Make keys, and show their public halves", Args: takes(1, manyFiles),
		Long: `Keeps the seed of a new key in each FILE that is not there yet (mode 0600), and prints
a line "USER KEY" for each: the file's name without its ending, and the public half of the
key. The lines are what ` + "`tidemark access users`" + ` reads; a seed is never printed.`,
		RunE: c.action(func(_ context.Context, files []string) error {
			var all []userKey
			for _, file := range files {
				key, err := keys.Keep(file)
				if err != nil {
					return fault.New(fault.Usage, "%w", err)
				}
				name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
				all = append(all, userKey{name, key.Public()})
			}
			return c.show(all, func(t *table) {
				for _, k := range all {
					t.row(k.User, k.Key)
				}
			})
		}),
	}
}

// manyFiles is more than a command line names.
const manyFiles = 1 << 10

func newAccessUsers(c *cli) *cobra.Command {
	var site string
	var follow followedUsers
	cmd := &cobra.Command{
		Use: "users LIST --site SITE", Short: "Write the users of a NATS server's configuration", Args: takes(1, 1),
		Long: `Reads a LIST of lines "USER KEY" (- is standard input) and prints the users that a NATS
server is to let in, with what each may publish and subscribe to. It belongs into the
server's account: see deploy/nats. A USER is journal, replayer, policy, notifier, node (all
four), operator (says every command), monitor (looks on) or gate (this command with
--follow); several lines may give keys to one. KEY is the public half, U….

Peers and tokens are in no list: the site's log says who they are. With --follow FILE the
command goes on, keeps FILE up to date with it, and has the NATS server whose process id is
in --reload read it again after each change. It ends with SIGTERM.`,
	}
	cmd.RunE = c.action(func(ctx context.Context, args []string) error {
		users, err := listedUsers(c, site, args[0])
		if err != nil {
			return err
		}
		if follow.file == "" {
			_, err = fmt.Fprint(c.out, usersFile(site, users))
			return err
		}
		follow.site = site
		return follow.run(ctx, c, users)
	})
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "name of the site")
	f.StringVar(&follow.file, "follow", "", "`file` to keep up to date, peers and tokens included")
	f.StringVar(&follow.pidFile, "reload", "", "`file` with the process id of the NATS server")
	return cmd
}

// listedUsers reads who is let in whatever the log says.
func listedUsers(c *cli, site, list string) ([]access.User, error) {
	if err := events.CheckName(site); err != nil {
		return nil, fault.New(fault.Usage, "--site: %w", err)
	}
	text, err := fileOrStdin(c, list, userListBytesMax)
	if err != nil {
		return nil, err
	}
	listed, err := readUserKeys(string(text))
	if err != nil {
		return nil, err
	}
	return usersOf(site, listed)
}

// readUserKeys reads lines "USER KEY"; empty lines and those that begin with # say nothing.
func readUserKeys(text string) ([]userKey, error) {
	var all []userKey
	number := 0
	for line := range strings.Lines(text) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		if len(fields) != 2 || !nkeys.IsValidPublicUserKey(fields[1]) {
			return nil, fault.New(fault.Usage, "line %d of the list of users: it is USER and a public key (U…)", number)
		}
		if slices.ContainsFunc(all, func(k userKey) bool { return k.Key == fields[1] }) {
			return nil, fault.New(fault.Usage, "line %d of the list of users: another line has that key: each user has one of its own", number)
		}
		all = append(all, userKey{fields[0], fields[1]})
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Usage, "the list of users is empty")
	}
	return all, nil
}

// usersOf gives each listed key what its user may do.
func usersOf(site string, listed []userKey) ([]access.User, error) {
	var users []access.User
	for _, k := range listed {
		grant, err := grantOf(site, k.User)
		if err != nil {
			return nil, err
		}
		users = append(users, grant.User(k.Key))
	}
	return users, nil
}

func grantOf(site, user string) (access.Grant, error) {
	switch user {
	case userOperator:
		return access.Operator(site), nil
	case userMonitor:
		return access.Monitor(site), nil
	case userGate:
		return access.Gate(site), nil
	}
	if names := append(access.Services(), access.Node); !slices.Contains(names, user) {
		names = append(names, userOperator, userMonitor, userGate)
		return access.Grant{}, fault.New(fault.Usage, "user %q: the users are %s", user, strings.Join(names, ", "))
	}
	return access.Service(site, user), nil
}

// usersFile is what an account of the server's configuration includes.
func usersFile(site string, users []access.User) string {
	return "# The users of site " + site + ", made by `tidemark access users`: change its list, not this.\n" +
		"users: " + access.Configuration(users...)
}
