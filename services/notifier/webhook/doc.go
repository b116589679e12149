// Package webhook tells programs that are reached by HTTP of the turns in stream
// LIFECYCLE: each note is POSTed to each configured URL as a CloudEvent, signed, until
// it is accepted or given up.
//
//	LIFECYCLE ──consumer webhook_NAME────────┐
//	                                         ├─► POST ─► Decide ─► acknowledged
//	DELIVERIES ─consumer webhook_again_NAME──┘             ├─► again after a pause
//	     ▲   letters that are sent again                   └─► LetterDied ─► DELIVERIES
//	     └─────────────── an operator ◄── dead letters ◄─────────────────────────┘
//
// # What is sent
//
// A CloudEvent 1.0 in structured JSON (application/cloudevents+json), see [Event]. The
// headers are those of Standard Webhooks 1: webhook-id is the event's id and the same at
// each try, webhook-timestamp the Unix second of the try, webhook-signature a list of
// "v1," and the base64 of HMAC-SHA256 over "ID.TIMESTAMP.BODY", one for each secret.
//
// # What is promised
//
//   - At least once: a note that was stored in LIFECYCLE after the URL was first
//     configured is delivered, or becomes a dead letter. A process that is killed between
//     the POST and the acknowledgement leads to a second POST with the same id. The
//     position of each URL is a durable consumer, so it outlives processes, and notifiers
//     with the same URLs share the work.
//   - In order: one note of a URL is under way at a time, and the next is not tried
//     before it was accepted or given up. Letters that are sent again come as they come.
//   - A URL that does not answer holds up no other one, and nobody else.
//   - What LIFECYCLE (64 MiB, oldest first) has dropped before it was delivered is lost,
//     and so is the position of a URL that no notifier asked for in 30 days.
//
// # When a try fails
//
// Any answer but 2xx is a failure. See [Policy.Decide]: pauses double and vary, and
// respect Retry-After; an endpoint that refuses what it gets (4xx but 408, 425 and 429,
// and redirects) is believed after 8 tries, one that says 410 at once; anything else is
// tried for as long as [Config] says. Then the note becomes a dead letter, which an
// operator lists, and sends again or discards.
//
// # What is never done
//
//   - No redirect is followed and no proxy used.
//   - No connection is made to an address that is not public ([Public]) unless that is
//     allowed. The address is checked when it is connected to, after it was resolved, so
//     a name that resolves otherwise a second time gains nothing.
//   - No more than 64 KiB of an answer are read, and nothing of it is kept but the status.
//   - URLs are neither logged nor stored, because they may hold a secret: a URL is named
//     by a hash, and by its host.
package webhook
