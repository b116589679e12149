// Package notifier owns two things: which instances live, and that what policy asks of
// them is delivered and answered.
//
//	in   tidemark.heartbeat.NODE.SERVICE   Heartbeat (not stored)
//	     tidemark.notify.NODE              AcquireRequested, ReleaseRequested
//	     tidemark.ack.NODE                 the acknowledgements, read back after a start
//	out  tidemark.instance.NODE.SERVICE    InstanceAdded, InstanceRemoved
//	     tidemark.control.NODE.SERVICE     the requests, as NATS requests
//	     tidemark.ack.NODE                 AcquireAcknowledged, ReleaseAcknowledged
//	     tidemark.rollcall                 asks for heartbeats, once at a start
//
// # Liveness
//
//	            heartbeat: InstanceAdded
//	unknown ────────────────────────────► alive ◄──┐ new incarnation:
//	   ▲                                  │  │     │ InstanceAdded
//	   │ heartbeat: InstanceAdded         │  └─────┘
//	   │                                  ▼
//	   └─────────────────────────────── gone   last heartbeat: InstanceRemoved (left)
//	                                           silence:        InstanceRemoved (silent)
//
// An incarnation that fell silent may come back. One that a newer incarnation took the
// place of does so only once that one is gone, and only if it goes on beating: it is
// then another process by the same name, and all that is left of the node. A notifier that starts, was stopped, or lost its connection gives
// everybody a fresh grace: it could not have heard them.
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
