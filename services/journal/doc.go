// Package journal owns the directories whose master copy this node holds: it takes
// clients' requests, appends them to the directory's log, and carries them into its own
// replica. It also serves the images of those directories to NBD clients.
//
// # In and out
//
//	in    acquire and release of directories (role master), from the notifier
//	      NBD requests; requests of the command line about images, snapshots and journals
//	      commit positions of all clients of the journals (stream POSITIONS)
//	      peers' directories, and the tags and ends of their copies, every 3 s (watch.go)
//	out   tags and entries (the directory's journal stream)
//	      heads (how far the journal is logged and safe), not stored
//	      its own commit position; turns in a directory's life (stream LIFECYCLE)
//
// # The path of a write
//
//	session.Write      device.go     one NBD connection, in the order of arrival
//	writer.submit      writer.go     room; then, under the directory's lock: versions
//	                                 before, position, entry into the open batch
//	writer.publish     publish.go    the batch is sealed (chain) and appended with the
//	                                 expected last sequence: LOGGED; staged for readers;
//	                                 the write is acknowledged, FUA waits for safe
//	tail.syncLoop      internal/tail the log is synced past it: SAFE
//	tail.applyLoop     internal/tail versions checked, data changed: APPLIED
//	tail.checkpoint    internal/tail data fsynced, then versions and commit mark: COMMITTED
//
// A request that one entry does not hold becomes a run (run.go): parts placed under one
// lock, in messages of their own where it takes several, acknowledged when the last is
// logged. A run that breaks off (its writer died, or the log was full) is void.
//
// # The path of an operation
//
//	operations.run     operation.go  its turn: one at a time, a bounded line waits
//	replica.Check                    decides, and gives the versions
//	OperationStarted                 logged and safe
//	work                             flatten copies, others have their turn meanwhile,
//	                                 and Check decides again; the others have none
//	OperationFinished                logged and safe; applying it makes the intent true
//
// Three kinds of isolation: sharing lets writes go on; ordering (a snapshot) places start
// and finish at once, with nothing between them; excluding (resize, rollback, removal,
// features) stops writers, has all before it applied, and lets them go on when it is
// applied itself. What an opening finds started and not finished becomes true if Check
// still allows it, before requests are taken and before a demotion; otherwise it is finished
// with the error.
//
// What librbd demands of the order of commits holds here so:
//
//   - Log before data, ops not before earlier IO is persisted: a replica changes only by
//     applying what is safe, in the order of the log, and an entry applies only to exactly
//     the versions that it names. Replaying IO across a snapshot or a resize again cannot
//     change anything, so positions need not be persisted before an operation. It is done
//     all the same before one that destroys data, which bounds what a crash replays.
//   - A blocking operation's finish follows its start: by place (ordering) or pause
//     (excluding).
//   - Start and finish are committed together: a checkpoint between them keeps the
//     operation among those unfinished, which loses nothing.
//   - The position is flushed after an operation: a checkpoint follows soon.
//   - Replay is idempotent: exact versions; no list of errors to ignore. That list applies
//     to imports (import.go), which are new entries for events of another journal.
//   - Tag and entry numbers: a claim is entry 0 of its tag, so an opening starts at 1. A tag
//     whose entries run out is followed by another inside the same life (marker.go, begin).
//
// # States of a directory
//
//	closed ──> opening ──> replaying ──> flushing ──> ready <──> importing
//	             ↑ │           │            │ │          │ │        │
//	             │ └───────────┴────────────┴─┼──────────┼─┼────────┤ an error
//	             │                            │          │ │        ↓
//	             ├──────────────── restarting, after 5 in a row failed
//	             │                            │          │ └─> stopping ──> closing ──> closed
//	             └ back-off, at most 30 s     └──────────┴──> fenced
//
//	closed      CLOSED, UNINITIALIZED   nothing is open
//	opening     INITIALIZING            replica and log are opened
//	replaying   REPLAYING               the log is carried into the replica
//	flushing    FLUSHING_REPLAY         drained; a tag is claimed; operations are settled
//	ready       READY                   requests are taken
//	importing   REPLAYING (external)    an import has the directory, others wait
//	stopping    STOPPING                nothing is taken; what was is made safe and applied
//	closing     CLOSING                 the last checkpoint; the replica is closed
//	restarting  FLUSHING_RESTART,       closed without a checkpoint, to be opened again at
//	            RESTARTING_REPLAY       the last one
//	failed      -                       the same, shown with its cause, tried more rarely
//	fenced      -                       another writer has claimed a later tag, or policy has
//	                                    fenced this node; from anywhere before stopping
//
// The second column is librbd's name. The table is in state.go. From opening, replaying,
// flushing, restarting, failed and fenced a release leads to closing. Followers are served
// from the end of replaying on, before a tag is claimed. A fenced directory stays down
// until policy says otherwise.
//
// # When a step fails
//
//   - Append finds another writer's entry: fenced. Nothing of the batch was stored; its
//     writes are answered with an error, the sessions are closed.
//   - A commit position is refused because policy has fenced this node, or it finds the fence
//     when it claims a tag: fenced. The agent finds the same in INSTANCES, lets go of
//     everything, and comes back as a new incarnation.
//   - Append finds the log full: the batch waits while the log is trimmed, at most
//     fullTime; then its writes and all that wait get ENOSPC, their positions are free
//     again, and the directory goes on: reads and followers are served. An operation that
//     was started is finished with that error as soon as there is room.
//   - Append finds that the log ends too early: it has lost what it acknowledged. The
//     directory fails, and does not open again over such a log; listeners are told.
//   - Append is not answered: the log is asked whether it holds the batch (package bus).
//   - Sync, apply or checkpoint fails: the directory fails; see package tail.
//   - A close that cannot make safe what was taken returns that error. So does one that comes
//     before a directory which failed by itself was opened again.
package journal
