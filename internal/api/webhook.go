package api

import "tidemark/events"

// Requests that the notifier service answers.
const (
	WebhookList  = "tidemark.api.webhook.list"  // Nothing -> []Webhook
	WebhookDead  = "tidemark.api.webhook.dead"  // Nothing -> []DeadLetter
	WebhookRetry = "tidemark.api.webhook.retry" // Letters -> []DeadLetter, those sent again
	// WebhookDiscard is Letters -> []DeadLetter, those that are dropped.
	WebhookDiscard = "tidemark.api.webhook.discard"
)

// NotifierSubjects are those of all requests that the notifier service answers.
func NotifierSubjects() []string {
	return []string{WebhookList, WebhookDead, WebhookRetry, WebhookDiscard}
}

// Webhook is a URL that the site's listeners are told by.
type Webhook struct {
	Webhook string `json:"webhook"` // a hash of the URL
	Host    string `json:"host"`
	// Configured is false for one that dead letters remain of.
	Configured bool `json:"configured"`
	// Backlog is how many notes wait, the one under way included.
	Backlog uint64 `json:"backlog"`
	Dead    int    `json:"dead"` // letters
	// Failing is why the last try failed, empty if it did not.
	Failing string `json:"failing,omitempty"`
}

// DeadLetter is a note that could not be delivered.
type DeadLetter struct {
	Webhook  string                `json:"webhook"`
	Host     string                `json:"host"`
	Sequence uint64                `json:"sequence"` // of the note in LIFECYCLE
	Turn     events.LifecycleNoted `json:"turn"`
	Tries    uint64                `json:"tries"`
	Error    string                `json:"error"`
	At       events.Instant        `json:"at"` // when it was given up
}

// Letters names dead letters: those of a webhook, or one of them.
type Letters struct {
	Webhook  string `json:"webhook"`  // empty: of all
	Sequence uint64 `json:"sequence"` // zero: all of the webhook
}
