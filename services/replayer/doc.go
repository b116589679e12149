// Package replayer follows directories that another site owns: it copies their journal
// into this site's, message by message, and carries it into its own replica.
//
// # In and out
//
//	in    acquire and release of directories (role slave), from the notifier
//	      peers of each pool (stream POOLS)
//	      delay, target RPO and sync rate of each directory (stream DIRECTORIES), live
//	      the journal of the source, its heads, and objects for a first sync
//	out   the same messages in this site's journal of the directory, byte for byte
//	      its commit position, to the source's site and to its own
//	      turns in a directory's life (stream LIFECYCLE)
//
// Why a journal of its own: a replica whose disk was written up to some point and whose
// source is gone must still be able to reach one consistent position after a crash, and
// a promoted replica must be able to show its history to those who follow it. So
// recovery and promotion need nothing but what this site holds.
//
// # States of a followed directory
//
//	stopped ──> syncing ──> replaying ──> stopped
//	   │           │            │
//	   ├───────────┴────────────┼──> error ──(back-off)──> syncing or replaying
//	   │                        └──> split_brain | disconnected
//	   └──> resync ──> stopped
//
// The table is in state.go. In split_brain and disconnected nothing is applied. In a split
// brain the source is asked again from time to time, because an operator may have resolved
// it; it is shown all the while, and listeners are told once. A copy that the owner's
// journal no longer waits for asks nobody any more: POSITIONS here remembers it, until the
// copy is resynced, empty or was promoted (disconnected.go).
//
// # Connecting
//
// Before it is followed a source tells its tags and its end (lineage.go), which say, by tag and
// chain and never by sequence alone, how its history is related to this copy's (package
// lineage):
//
//	same, behind    the source is followed
//	ahead           the source has to catch up with us first, unless its journal already has,
//	                because it is kept behind on purpose
//	diverged        split_brain, with the position where they parted and what each holds since.
//	                Where one side has only claimed tags since, nothing can be lost: a copy gives
//	                such claims up for a primary, for who hears one, and otherwise for who holds more
//	                ([lineage.Decide]): it is rewound to the common mark, in one transaction,
//	                and its journal begins anew there. The same if it is ahead by claims alone
//	                of a primary that another site was promoted over
//	unknown         disconnected: the owner keeps too few tags to tell. That is no split brain
//	another life    disconnected: the directory was removed there and created again
//
// A copy compares what it has applied. What it has received behind that, and every message
// that comes, is compared by the journal: it must continue the one before, under its chain.
// A source that has parted is not told that it is followed. Of two primaries the one is
// followed whose history the copy is of, before claims are given up for another one.
//
// What the source had logged when it was last heard is kept in POSITIONS (heard.go): a forced
// promotion says from it what it loses, also after a restart.
//
// # First sync
//
// An empty copy registers with the owner, whose journal is then not trimmed behind it, and
// asks where the owner stands: position, images, snapshots, layers, unfinished operations.
// The objects of every layer are copied several at a time while the owner goes on writing;
// each comes with its version, so the journal replayed from the start position skips what an
// object already includes. The copy is complete when the replay has reached the highest
// version that was copied. Objects that were checkpointed are not copied again after a
// crash. Meanwhile the source merges no layers; if it did while the copying was
// interrupted, the sync starts over (sync.go).
//
// # Resync
//
// An operator may give up what only this site has. The request has a number that grows, and
// comes with each acquire; a copy whose metadata know a lower one carries it out (resync.go),
// whatever died meanwhile, and once. A copy that is empty has nothing to give up; one whose first
// sync has not ended goes on with it, and starts over only if that cannot be.
//
//	primary ──objects, by version and digest──┐
//	   │                                      v
//	   └──journal, from where it began──> copy beside ──level──> takes the old one's place
//	                                          ^                   with a journal of its own
//	old copy: readable, promotable ───what is the same
//
// Where the content comes from, and what holds meanwhile:
//
//   - Only a primary is taken from, or, along a chain, a site that hears one and goes on with
//     this copy's own history. While there is none the resync waits, and says so. For a node that
//     another of the site gave the replica to, any source of a first sync will do.
//   - The new copy is filled as by a first sync. An object that both copies have in the same
//     version, with the same bitmaps, is taken from the old one: in the history that both have
//     in common there is one content of a version. Of any other the digests of what the old
//     copy shows there go to the source, and the blocks come back that differ. A donor that
//     failed, or has not replayed what it had applied, is trusted by its digests alone.
//   - The new copy has no journal: its tail borrows the source's, where it is registered, so
//     after a crash it replays from there. It applies what the source reports safe.
//   - It takes the old one's place when it is consistent, has everything that was safe when it
//     was first heard, and is at most 4 MiB behind. One transaction of its metadata decides
//     that; before it a crash leaves the old copy, after it whoever opens the directory next,
//     owner or follower, carries it out ([replica.Replace]): the folders change places, and
//     the journal here begins anew behind the new copy's mark.
//   - Until then the old copy is as it was, and can be promoted by force: what was prepared is
//     dropped then, and the request void. What was prepared from a history that cannot be gone
//     on with is dropped too, and begun again.
//   - With keep, the old copy's folder stays, and those of its images that have something
//     which was not there where the histories parted are shown read-only
//     ([holder.Conflicts]).
//   - A copy that cannot be opened because its journal or its files failed is replaced in the
//     same way, but not kept. One whose metadata are damaged does not know which requests it
//     has seen: one counts that is made after that was noticed ([replica.NoteDamage]).
//
// # An old copy
//
// A node that a replica has left keeps its copy. It deletes it when it is asked to, and only
// if the holder has all of it (discard.go lists what must hold).
//
// # Following
//
//	source journal ──> continues the last? ──> inbox ──> my journal ──> tail ──> replica
//	heads of the source: safe there ─────────────┘
//
// A message that does not continue this copy's history (another chain, an entry missing)
// is never stored: the directory stops, visibly. What the source has not reported safe
// stays in memory (inbox.go says why), and is stored only to be promoted by force. The parts
// of a change that spans messages are stored as they come; the tail applies them together,
// or, when a claim cuts them off, not at all.
//
// Every few seconds the source is asked whether this site may still follow.
//
// A commit position is published here first, under the tenure of the assignment (package
// holder). When the log refuses it, because this node was taken for dead and fenced, nothing
// is applied, trimmed or told to the source any more, and the directory stays down until the
// agent has let go of it; see follower.fenced.
//
// # Links
//
// A source is reached by two connections: one for heads and questions, one for the journal
// and objects, so that what is large never keeps a head from coming. Connections are never
// mended. One that ends, or a source of which no head comes for 3 s (or no byte of a journal
// that it has, for 5 s), is dialled anew: a try every half a second, each with 5 s, all
// peers at a time. The source that was followed before is asked how it stands, to be let in as
// long as it goes on with what this copy has ([holder.SyncBeginReply]), and for its journal, all
// at once. So replay goes on within 2 s of a link's return, whatever TCP is waiting for, and a
// slow link has the time that it needs. Objects come part by part, each as it is asked for; a
// journal 4 MiB at a time. Both are bounded by the directory's rate (rate.go).
//
// # Lag and alarms
//
// Heads come every second, also of an idle directory, and pass on through followers what
// the primary said last and how long ago. So lag is known to be zero, or grows (lag.go).
// Two alarms are raised once and taken back once: lag above the target, and a copy that
// stands still or hears nothing (alarm.go).
//
// # Verify
//
// On request the copy is compared with its source while both go on: each object in exactly
// one version of both sides, what is not data at the end of one message (verify.go). What
// differs is reported and, if asked for, overwritten with what the source has.
package replayer
