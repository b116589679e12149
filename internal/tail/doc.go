// Package tail carries a directory's logged messages into its replica. It is what the
// owner of a directory and a follower have in common:
//
//	Logged ──> queue ──sync──> safe ──Apply──> replica ──Checkpoint──> committed ──> trim
//	            │                                                        │
//	            └─ staged: served to readers from memory (owner)         └─ OnCommit
//
// # Invariants
//
//   - Nothing is applied before the local log is synced past it. A follower puts into its
//     log only what its origin has reported safe.
//   - Messages are applied in the order of the log, each exactly once; what the replica
//     refuses (a gap, another chain, another version) stops the tail for good.
//   - The messages of a run (one change of several entries) are applied as one step,
//     once its last one is safe; what breaks a run off decides that it is void. A
//     checkpoint never falls inside of one, and readers do not see a part of one. A log
//     may end inside a run: [Tail.Drain] and [Tail.Replay] leave it where it is.
//   - Steps that are safe are applied several at once, up to 8 MiB of them (1 MiB while clients
//     are served): the replica writes what lies side by side together. Then no checkpoint falls
//     between them either.
//   - What is not yet applied is bounded: at most [UnappliedBytesMax] is unapplied or
//     promised by [Tail.Room], where writers wait in turn. What readers see of it before
//     it is applied is the same memory, not a second copy.
//   - With a delay a message is applied when it is due, and kept in the log alone until
//     then. Nothing is applied that was not noted durably before, so that a replica which is
//     opened again knows what its files may hold parts of (held.go).
//   - A commit position is announced only after the checkpoint that it names.
//   - The log is cut only below what every client needs ([Positions]), and not while one
//     is being let in ([Tail.BetweenTrims]).
//
// # When a step fails
//
// A failed sync, apply or checkpoint ends [Tail.Run] with the error and fails every
// waiter; nothing is retried on the same open files, because a page that failed to reach
// the disk may be lost without a second error. The holder closes the replica, opens it
// again at its last checkpoint and replays the log.
package tail
