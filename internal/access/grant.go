package access

import (
	"slices"
	"strings"
)

// Grant is what a user may do. Subjects may hold wildcards.
type Grant struct {
	Name string // for people who look at the configuration
	// Publish lists where the user may publish, DenyPublish what of it is refused all the same.
	Publish, DenyPublish []string
	Subscribe            []string
}

// User is a grant that was given to the holder of a key.
type User struct {
	Grant
	Key string // the public nkey
	// Parts are what a connection may that says by its name ([ConnectionFor]) that it is for one
	// directory: less, so that a site which follows thousands is not given all of them thousands
	// of times.
	Parts map[string]Grant
}

// connectionFor stands in a connection's name before the directory that it is for.
const connectionFor = " for "

// ConnectionFor names a connection that is for one directory (POOL/PATH) alone.
func ConnectionFor(name, directory string) string { return name + connectionFor + directory }

// anyPart is the part for a directory that the user may not reach, or not yet.
const anyPart = ""

// Of returns what a connection of the user may, by the connection's name.
func (u User) Of(connection string) Grant {
	i := strings.LastIndex(connection, connectionFor)
	if i < 0 || u.Parts == nil {
		return u.Grant
	}
	if part, known := u.Parts[connection[i+len(connectionFor):]]; known {
		return part
	}
	return u.Parts[anyPart]
}

// inboxes is the first token of every inbox.
const inboxes = "_INBOX"

// Inbox returns the prefix of the subjects at which the holder of a public key takes answers.
func Inbox(key string) string { return inboxes + "." + key }

// User gives a grant to the holder of a public key, whose inbox it then is.
func (g Grant) User(key string) User {
	g.Subscribe = tidy(append(slices.Clone(g.Subscribe), Inbox(key)+".>"))
	return User{Grant: g, Key: key}
}

// Join returns a grant of everything that the others grant. What one of them denies and
// another allows is allowed.
func Join(name string, grants ...Grant) Grant {
	all := Grant{Name: name}
	for _, g := range grants {
		all.Publish = append(all.Publish, g.Publish...)
		all.Subscribe = append(all.Subscribe, g.Subscribe...)
	}
	for _, g := range grants {
		for _, denied := range g.DenyPublish {
			if !slices.ContainsFunc(grants, func(other Grant) bool { return other.allows(denied) }) {
				all.DenyPublish = append(all.DenyPublish, denied)
			}
		}
	}
	all.Publish, all.DenyPublish, all.Subscribe = tidy(all.Publish), tidy(all.DenyPublish), tidy(all.Subscribe)
	return all
}

// allows reports whether a subject is named by the grant, and not denied.
func (g Grant) allows(subject string) bool {
	return slices.Contains(g.Publish, subject) && !slices.Contains(g.DenyPublish, subject)
}

func tidy(subjects []string) []string {
	slices.Sort(subjects)
	return slices.Compact(subjects)
}
