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
//   - What is not yet applied is bounded in bytes: [Tail.Room] makes writers wait, and
//     asks for a sync when the bound is near.
//   - A commit position is announced only after the checkpoint that it names.
//
// # When a step fails
//
// A failed sync, apply or checkpoint ends [Tail.Run] with the error and fails every
// waiter; nothing is retried on the same open files, because a page that failed to reach
// the disk may be lost without a second error. The holder closes the replica, opens it
// again at its last checkpoint and replays the log.
package tail
