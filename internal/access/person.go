package access

import (
	"slices"

	"tidemark/events"
	"tidemark/internal/api"
)

// Operator is who may say every command: all requests, and reading of every stream. What
// happens is written by the services, so it publishes no fact.
func Operator(string) Grant {
	return Grant{
		Name: "operator",
		Publish: slices.Concat(read(anyStream), []string{
			jsAPI + "STREAM.NAMES", jsAPI + "STREAM.LIST", jsAPI + "INFO",
			api.Requests, api.PaceSubjects,
		}),
		DenyPublish: []string{api.LogSync, api.PeerJoin},
		Subscribe:   []string{events.HeadsSubject, events.HeartbeatSubjects("*"), events.LifecyclesSubject},
	}
}

// Monitor is who looks on: it asks the services what changes nothing. It asks JetStream for
// nothing: what that answers could be sent to a journal, whose writer would stop.
func Monitor(string) Grant {
	return Grant{
		Name:      "monitor",
		Publish:   append(reports(), api.PaceSubjects),
		Subscribe: []string{events.HeadsSubject, events.HeartbeatSubjects("*"), events.LifecyclesSubject},
	}
}

// Gate is who keeps the users of an outside NATS server up to date with the site's log (package
// gate): it reads which pools are shared with whom, and says nothing.
func Gate(string) Grant {
	return Grant{Name: "gate", Publish: each(heed, events.StreamPools, events.StreamDirectories)}
}
