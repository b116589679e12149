// Package notifier owns three things: which instances live, that what policy asks of
// them is delivered and answered, and that listeners are told what happened.
//
//	in   tidemark.heartbeat.NODE.SERVICE   Heartbeat (not stored)
//	     tidemark.notify.NODE              AcquireRequested, ReleaseRequested
//	     tidemark.ack.NODE                 the acknowledgements, read back after a start
//	out  tidemark.instance.NODE.SERVICE    InstanceAdded, InstanceRemoved
//	     tidemark.control.NODE.SERVICE     the requests, as NATS requests
//	     tidemark.ack.NODE                 AcquireAcknowledged, ReleaseAcknowledged
//	     tidemark.rollcall                 asks for heartbeats, once at a start
//	     tidemark.lifecycle.DIRECTORY.WHAT LifecycleNoted, derived from the streams
//
// # Liveness
//
//	            heartbeat: InstanceAdded
//	unknown ────────────────────────────► alive ◄──┐ new incarnation:
//	                                      │  │     │ InstanceAdded
//	                                      │  └─────┘
//	   a new incarnation:                 ▼
//	   InstanceAdded  ◄──────────────── gone   last heartbeat: InstanceRemoved (left)
//	                                           silence:        InstanceRemoved (silent)
//
// An incarnation that is gone never comes back, nor does one that a newer one took the place
// of: what it held may be another's. Its heartbeats are passed over. Its agent reads
// INSTANCES (package instance), lets everything go, and announces itself anew.
//
// Who may be wrong, and what comes of it:
//
//   - This notifier was stopped, lost its connection, or starts: it gives everybody a fresh
//     grace, because it could not have heard them. When the whole site was stopped, nobody
//     is taken for dead.
//   - One of two notifiers does not hear an instance that the other hears: it removes it, and
//     both obey the log. The instance begins anew; nothing is held twice. If that goes on,
//     the instance begins anew once in each silence, and both logs say so.
//   - Each instance is judged by its own heartbeats alone, at least 20 times in the silence
//     that is allowed: one that hangs, and requests that it does not answer, delay nobody
//     else's detection.
//
// # Listeners
//
// The herald derives turns from the facts of DIRECTORIES, INSTANCES and NOTIFICATIONS and
// notes them in LIFECYCLE ([Turns]): what is a fact in another log need not be noted by who
// brought it about, and is not lost while nobody can note it. Each note names its cause.
// Which causes are noted is a fold of LIFECYCLE; because that drops its oldest notes, the
// last cause of each stream stands in DELIVERIES too. A note is published on the condition
// that LIFECYCLE ends where this herald has read it to, so that two notifiers note it once.
// What nobody can derive (an alarm, a closing, a fence) the holders note themselves, see
// package turns. Programs that want to be told by HTTP: package webhook.
//
// # Delivery
//
//	  request in the log
//	         │
//	         ▼          no answer, a doubtful one: after 250 ms, doubling to 5 s
//	     waiting ──► asked ──────────────────────────────┐
//	         ▲        │  │                               │
//	         └────────│──│───────────────────────────────┘
//	answer of the node│  │its incarnation is gone
//	                  ▼  ▼
//	           acknowledgement in the log (fenced if gone)
//
// Invariants:
//
//   - Requests of one directory are delivered one at a time, in the order of the log;
//     those of different directories side by side, so a holder that hangs delays nobody
//     else.
//   - Each request gets exactly one acknowledgement: it is published on the condition
//     that the log still lacks it. It repeats the request's assignment exactly.
//   - What the log shows as acknowledged is never sent again.
//   - A request is given up only when the log says that its incarnation is gone, never
//     because of a time-out.
//
// # When a step fails
//
//   - The node does not answer: the same operation is sent again; the agent at the node
//     (package instance) runs it once.
//   - The notifier dies after the node answered and before the acknowledgement is stored:
//     the next one sends the operation again and gets the same answer.
//   - The notifier dies otherwise: the next one folds the streams and goes on.
//   - The log refuses (full, unreachable): tried again with the same pauses; policy
//     waits, nothing is lost.
//   - Two notifiers run: both may deliver, only one acknowledgement is stored.
//   - A message of a stream cannot be read: it is skipped, counted and logged as an
//     error. No message of a stranger stops the service.
package notifier
