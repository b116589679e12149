// Package events is Tidemark's language: one struct for each fact, in the past
// tense, with its codec, and the subjects and streams that carry it. Services
// never import each other; they meet in this package, over JetStream.
//
// # Two wire forms
//
// Everything is msgpack, and begins with the same two elements: a format version
// and a kind, so that one decoder (and the decode command) can tell what it holds.
//
//   - A fact ([Fact]) is [version, kind, map]: the map's keys are the field names,
//     unknown keys are skipped, missing ones are zero. Facts are few and small.
//   - A journal message ([Batch], [TagClaimed]) is a flat array written by hand,
//     because it carries every byte that a client writes. See batch.go.
//
// # Hostile input
//
// Bytes from the bus are never handed to a reflecting decoder unchecked: [Unmarshal]
// first walks them with bounded lengths and depth (guard.go), and journal messages
// are read by a slice parser that allocates nothing from a claimed length.
//
// # Position and chain
//
// A [Position] says where an entry stands; a chain is a running 64-bit hash of the
// whole history up to it. Two copies are the same only when both agree: the same
// position under another chain is a divergence, never "caught up".
package events
