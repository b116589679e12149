// Package replica is one node's copy of a directory: images with their snapshots and
// clones, the versions of their objects, the operations that have begun and not ended,
// and the position that the copy has come to. The owner's own copy is a replica like any
// other; there is one way to change one, [Replica.ApplyRun].
//
// # On disk
//
//	DIR/lock            held while the replica is open
//	DIR/meta.db         bbolt, format 2: identity, state, tags, images, snapshots, layers,
//	                    unfinished operations, objects
//	DIR/safe            how far the journal was known to be safe; see safenote.go
//	DIR/due             how far a journal was due that is applied with a delay; see duenote.go
//	DIR/layers/N.img    a sparse file of data for each layer; a byte of the image lies
//	                    at the same offset of the file. N is never used again.
//
// A layer's record names its parent, its file, and what it shows of the parent; an image's
// and a snapshot's name their layer. Objects are filed under the layer's file, so that a
// layer can take another's place without touching their records. What refers to a layer is
// counted when it is needed, never stored. Format 1, one layer for each image, is refused.
//
// # In memory
//
//	   Stage                      Apply                     Checkpoint
//	(logged entries)          (safe entries)                     |
//	     |                          |                            v
//	     v                          v                    1 sync layers/N.img
//	+---------+   covers   +------------------+          2 commit meta.db:
//	| staged  | ---------> | objects, N.img   | ------->   versions, blocks, structure, mark
//	+---------+            +------------------+          3 remove and punch what it forgot
//	     ^                          ^
//	     +--------- ReadAt ---------+
//
// An image is divided into objects, an object into blocks of 4 KiB. Of each object a layer
// knows its version (the position of the entry that changed it last there), which blocks
// are allocated, and which are hidden.
//
// # Layers
//
//	       snapshot s1      snapshot s2        image a
//	            |                |                |
//	layer 1 <- layer 2 <------ layer 3 <------- layer 4 (active)
//	                              ^
//	                              +------------ layer 5 (active) - image b, a clone of s2
//
// Only active layers are written to. A snapshot closes the active layer and puts an empty
// one on top; a clone's first layer stands on the snapshot's; a rollback puts a new active
// layer on the snapshot's and drops the old one. All three take the same time whatever the
// image's size. Layers are numbered in the order in which entries made them, so the numbers
// are the same on every replica.
//
// What a block shows is said at [layer] and in chain.go: allocated, hidden, or what lies
// below, as far as the overlap reaches. The overlap shrinks with the image and never grows
// again: what was cut off does not come back. A block that is written in part is first
// filled with what it showed, and one that is discarded hides what lies below.
//
// The version of an object is that of the first layer from the top in which it was touched.
// A layer with a floor ends the search: a clone's objects have the version of the clone, a
// rolled back image's that of the rollback, until they are changed. So versions never go
// back, except that what a shrink cuts off begins at zero again.
//
// # Steps
//
// What is applied at once is planned first: every entry is checked against the versions that
// the ones before it will leave, and its parts are put to the objects that they touch. Only
// then the objects are changed, one by one in the order in which they lie in the file: writes
// that adjoin become one, blocks that a later write covers are not written. Versions order
// what happens to one object; nothing orders different objects, until something that is no
// change of data (an operation, a fact, a tag, a flush) or the step's end has all that was
// planned carried out. The result is that of one entry after the other, and a reader cannot
// tell either: see carryOut. All this is one goroutine: the kernel lets one write at a time
// into a file.
//
// # Facts and operations
//
// [Replica.Check] says whether a fact could be made true, and with which versions. The
// owner decides by it before it logs, recovery before it finishes what a dead owner began,
// and Apply before it changes anything: an entry that it refuses cannot be in a history that
// this copy has followed, and is corrupt. The start of an operation changes only the list of
// unfinished ones; its finish makes the intent true at the finish's position. Both the list
// and the facts are in the checkpoint, so one may fall between them.
//
// Entries that are parts of one change are applied when all of them are there, in one step
// with the messages that hold them; a run that breaks off is void, and what was staged of
// it disappears.
//
// # Invariants
//
//   - A block that is not allocated is never read from the file, whatever that holds. So
//     what a crash leaves in the file behind the last checkpoint is never seen: where it
//     lies in unallocated blocks it is overwritten whole, and where it lies in allocated
//     ones the entries that put it there are replayed, in order, before the copy is used.
//   - The metadata name a state that is in the files at least: data is synced before the
//     transaction that speaks of it. They name the end of a message, never its middle, nor
//     a place inside a run.
//   - An object changes only from exactly the version that an entry names, all objects
//     of an entry are checked before one is changed, and the version is set after the
//     data, under the lock that readers and copiers of the object take. It may be ahead of
//     [Replica.Applied] within a step, never of where the step ends.
//   - A reader of a block sees either what an entry staged, or what the same entry
//     applied, or what came later: both change hands under the object's lock. A reader of a
//     snapshot sees what was applied up to its position, and nothing else, ever.
//   - A closed layer shows the same for as long as anything stands on it.
//   - Behind the end of an image its last block holds zeroes, so overlaps are whole blocks.
//   - A layer's file is removed only after the transaction that forgets the layer, and files
//     that no layer has are removed when the replica is opened.
//   - A layer stands on one that was made before it: there are no circles.
//
// # Compaction
//
// When a snapshot goes, nothing can tell its layer from the one above it any more, if that
// is the only one. [Replica.Compact] makes one of the two, some objects at a time: the
// smaller one's are moved into the other. First the upper layer is made to show all of the
// lower one (what it did not show is dropped, and its floor handed down), so that it makes
// no difference in which of them an object is; what was moved last decides which layer is
// dropped, and the upper one's number stays. A flattened image has no parent from its
// finish on; its lowest layer stands on the parent's until [Replica.Pull], or Compact, has
// copied what it shows of that.
//
// Compaction is neither logged nor replayed, so a crash must leave nothing of it but what
// the metadata know:
//
//   - Upwards, data go where the upper layer has nothing allocated.
//   - Downwards, data overwrite blocks that the upper layer covers, as the last checkpoint
//     has it too: an object that was changed since then has to wait for the next one.
//   - What a merge has moved up stays where it was until the next checkpoint: Pull, which
//     writes to a clone's lowest layer where nothing is allocated, takes that first.
//   - What is freed is punched after the checkpoint that has it freed, unless it was
//     allocated again.
//
// It holds still while a first sync runs here, or is served ([Replica.HoldCompaction]).
//
// # Failure at each stage
//
//   - Between Apply and Checkpoint: files hold any mixture of what was written. [Open]
//     returns to the last checkpoint and the journal is replayed from there.
//   - Between the sync and the commit: the same; the files are merely further ahead.
//   - In the commit: bbolt leaves the old or the new state.
//   - Between the commit and the removal of files: Open removes them. Holes that were not
//     punched keep their space until the blocks are used again.
//   - In a step of compaction: the structure of the last checkpoint, with the same content.
//     A copy that fails (no space, an error of the file) leaves the replica as it is.
//   - A failed write of an entry, sync or commit: the replica has failed for good; objects
//     may be as of different entries of the last step. It is not tried again, because the
//     kernel may report an error once and then forget the pages.
//
// # First sync
//
// A follower that has nothing adopts the source's mark S with the images, snapshots, layers
// and unfinished operations ([Replica.BeginSync]), installs the objects of each layer,
// copied one by one in any order while the source goes on, and then replays from S. An
// object of a layer that was active was copied at some position after S, so replay finds it
// too new; versions only grow along a history, therefore an object at or above an entry's
// version has the entry in it and is skipped, object by object. A history that goes on without
// the newest entry that was copied is refused ([ErrAstray]): the source was lost with it. Closed layers are copied as
// they are. This ends when replay has reached the newest copy; from there versions are
// exact.
//
// An object that the source had and dropped again (a shrink, a rollback, a removal) before
// it could be copied was never installed: it shows an older version than entries want, they
// are skipped too, and it is held against the replica until replay comes to the drop.
//
// # Taking another's place
//
//	DIR                the copy
//	DIR.resync         one that is prepared to take its place
//	DIR.refused-NAME   one whose place was taken, and that is kept
//
// A resync fills DIR.resync as a first sync fills a copy, and has it apply the source's
// journal. [Replica.TakePlace] decides, in one transaction of the new copy's metadata: its
// number is that of the request, its journal begins anew, and whether the old copy is kept.
// [Replace] then moves or destroys DIR, and renames DIR.resync. Each step looks at what is
// there, so it is repeated after a crash; the flag that the journal begins anew
// ([Replica.NewJournal]) outlasts the renaming, so the old copy's journal is never taken for
// the new one's. [Imprint] says whether two copies have the same of an object,
// [ObjectCopy.LeaveOut] and [ObjectCopy.PutBack] leave blocks out of what travels.
//
// # Cost
//
// A layer costs an open file, a record, 8 KiB of memory and as much again for each 256
// neighbouring objects of which one was touched. Nothing but the process's limit of open
// files bounds the layers of all images together. Reading through 200 layers of which none has the
// object costs about 2 µs, and so does [Image.ObjectVersion]; see BenchmarkDeepChain.
package replica
