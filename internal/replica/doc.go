// Package replica is one node's copy of a directory: images, the versions of their
// objects, and the position that the copy has come to. The owner's own copy is a
// replica like any other; there is one way to change one, [Replica.Apply].
//
// # On disk
//
//	DIR/lock            held while the replica is open
//	DIR/meta.db         bbolt: identity, state, tags, images, objects
//	DIR/layers/N.img    a sparse file of data for each layer; a byte of the image lies
//	                    at the same offset of the file. N is never used again.
//
// # In memory
//
//	   Stage                      Apply                     Checkpoint
//	(logged entries)          (safe entries)                     |
//	     |                          |                            v
//	     v                          v                    1 sync layers/N.img
//	+---------+   covers   +------------------+          2 commit meta.db:
//	| staged  | ---------> | objects, N.img   | ------->   versions, blocks, mark
//	+---------+            +------------------+
//	     ^                          ^
//	     +--------- ReadAt ---------+
//
// An image is divided into objects, an object into blocks of 4 KiB. Of each object the
// replica knows its version (the position of the entry that changed it last) and which
// blocks are allocated.
//
// # Invariants
//
//   - A block that is not allocated reads as zeroes, whatever the file holds. So what a
//     crash leaves in the file behind the last checkpoint is never seen: where it lies in
//     unallocated blocks it is overwritten whole, and where it lies in allocated ones the
//     entries that put it there are replayed, in order, before the copy is used.
//   - The metadata name a state that is in the files at least: data is synced before the
//     transaction that speaks of it. They name the end of a message, never its middle.
//   - An object changes only from exactly the version that an entry names, all objects
//     of an entry are checked before one is changed, and the version is set after the
//     data, under the lock that readers and copiers of the object take.
//   - A reader of a block sees either what an entry staged, or what the same entry
//     applied, or what came later: both change hands under the object's lock.
//   - A layer's file is removed only after the transaction that forgets it, and files
//     that no image has are removed when the replica is opened.
//
// # Failure at each stage
//
//   - Between Apply and Checkpoint: files hold any mixture of what was written. [Open]
//     returns to the last checkpoint and the journal is replayed from there.
//   - Between the sync and the commit: the same; the files are merely further ahead.
//   - In the commit: bbolt leaves the old or the new state.
//   - A failed write, sync or commit: the replica has failed for good. It is not tried
//     again, because the kernel may report an error once and then forget the pages.
//
// # First sync
//
// A follower that has nothing adopts the source's mark S and images
// ([Replica.BeginSync]), installs objects copied one by one in any order while the
// source goes on, and then replays from S. An object was copied at some position after
// S, so replay finds it too new; versions only grow along a history, therefore an
// object at or above an entry's version has the entry in it and is skipped, object by
// object. This ends when replay has reached the newest copy; from there versions are
// exact. An object that the source had and dropped again (a shrink) before it could be
// copied was never installed: entries for it are skipped too, and it is held against
// the replica until replay comes to the drop.
//
// # Seam
//
// An image has one layer. Overlays are a chain of them, each with its own file and
// table: reads fall through unallocated objects to the layer below.
package replica
