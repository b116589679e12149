package overview

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"tidemark/events"
	"tidemark/internal/api"
)

// SilenceTold is for how long a service that fell silent is told of: one that is gone for
// good is no news for ever.
const SilenceTold = 7 * 24 * time.Hour

// Worries tells of services that fell silent, and of notes that no webhook took.
func (m Map) Worries(now time.Time) []Worry {
	var found []Worry
	for _, i := range m.Site.Silent {
		if events.InstantOf(now).Sub(i.Since) < SilenceTold {
			found = append(found, FellSilent(i.Node, i.Service))
		}
	}
	return append(found, m.DeadLetters()...)
}

// FellSilent tells of a service of a node.
func FellSilent(node, service string) Worry {
	return Worry{Broken, Attention{
		node, "its " + service + " service fell silent", "look at the host; when it is back it rejoins by itself",
	}}
}

// DeadLetters tells of webhooks that did not take their notes.
func (m Map) DeadLetters() []Worry {
	var found []Worry
	for _, h := range m.Webhooks {
		if h.Dead == 0 {
			continue
		}
		do := "mend the receiver, then: tidemark webhook dead retry --all"
		if !h.Configured {
			do = "name it again with serve --webhook, then: tidemark webhook dead retry --all" + Or + "tidemark webhook dead discard --all"
		}
		notes := "notes"
		if h.Dead == 1 {
			notes = "note"
		}
		found = append(found, Worry{Undelivered, Attention{
			"webhook " + h.Host, fmt.Sprintf("%d %s could not be delivered: tidemark webhook dead list", h.Dead, notes), do,
		}})
	}
	return found
}

// askWebhooks returns what the notifier says of webhooks. One that says nothing has none:
// nodes are told of by themselves, and what is known must not wait for it.
func askWebhooks(ctx context.Context, nc *nats.Conn) []api.Webhook {
	within, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	hooks, err := api.CallParts[[]api.Webhook](within, nc, api.WebhookList, api.Nothing{})
	if err != nil {
		return nil
	}
	return hooks
}
