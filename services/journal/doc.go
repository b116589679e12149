// Package journal owns the directories whose master copy this node holds: it takes
// clients' requests, appends them to the directory's log, and carries them into its own
// replica. It also serves the images of those directories to NBD clients.
//
// # In and out
//
//	in    acquire and release of directories (role master), from the notifier
//	      NBD requests; requests of the command line about images
//	      commit positions of all clients of the journals (stream POSITIONS)
//	out   tags and entries (the directory's journal stream)
//	      heads (how far the journal is logged and safe), not stored
//	      its own commit position; turns in a directory's life (stream LIFECYCLE)
//
// # The path of a write
//
//	session.Write      device.go     one NBD connection, in the order of arrival
//	writer.submit      writer.go     room; then, under the directory's lock: versions
//	                                 before, position, entry into the open batch
//	writer.publish     writer.go     the batch is sealed (chain) and appended with the
//	                                 expected last sequence: LOGGED; staged for readers;
//	                                 the write is acknowledged, FUA waits for safe
//	tail.syncLoop      internal/tail the log is synced past it: SAFE
//	tail.applyLoop     internal/tail versions checked, data changed: APPLIED
//	tail.checkpoint    internal/tail data fsynced, then versions and commit mark: COMMITTED
//
// # States of a directory
//
//	opening ──> replaying ──> ready ──> closing ──> closed
//	   │            │           │          ↑
//	   └────────────┴───────────┼──> failed ──(back-off)──> opening
//	                            └──> fenced
//
// The table is in state.go. Followers are served from the end of replaying on, before a
// tag is claimed. A failed directory is opened again from its last checkpoint;
// a fenced one (another writer has claimed a later tag) stays down until policy says
// otherwise.
//
// # When a step fails
//
//   - Append finds another writer's entry: fenced. Nothing of the batch was stored; its
//     writes are answered with an error, the sessions are closed.
//   - Append finds the log full: the batch waits while the log is trimmed, at most
//     fullTime; then its writes and all that wait get ENOSPC, their positions are free
//     again, and the directory goes on: reads and followers are served.
//   - Append finds that the log ends too early: it has lost what it acknowledged. The
//     directory fails, and does not open again over such a log.
//   - Append is not answered: the log is asked whether it holds the batch (package bus).
//   - Sync, apply or checkpoint fails: the directory fails; see package tail.
package journal
