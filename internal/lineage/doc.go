// Package lineage compares two histories of a directory by their tags and ends.
//
// A history is a chain of tags: each claim names the mark (position and chain) of the last
// entry that it continues. Two sides know their own tags and where they stand, and from that
// alone it follows who may follow whom:
//
//	theirs leads through our end    behind    we may follow
//	ours leads through their end    ahead     they may follow
//	both                            same
//	neither                         diverged  a split brain, from the last common mark on
//	what would tell was forgotten   unknown   no split brain: sync anew
//
// # Rules
//
//   - Never by sequence alone. A claim is the same only with the same chain, and the same
//     position with another chain is another history.
//   - A tag has one writer and one history: inside of the same claim the greater position is
//     later. That is an invariant of writers, not something that tags prove, so this is the
//     first word only; the last one has the journal, whose messages carry the chain each.
//   - A copy knows the tags since the first one that it was given. What lies before is
//     neither held nor lacked, until a mark that is known decides it.
//   - Claims without an entry part histories like any other message, but they are no loss:
//     what a copy does about a source that it would follow says [Decide].
//
// The package does no I/O and knows no sites.
package lineage
