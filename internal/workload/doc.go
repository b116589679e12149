// Package workload makes writes that can be recognised, remembers when each was
// submitted and acknowledged, and judges what images hold afterwards. It does no I/O
// and reads no clock: the demo and the tests carry the writes out.
//
// # What a block holds
//
// Every write is of whole blocks, of 4 KiB as a rule. Each block says which write put it
// where:
//
//	offset  bytes  field (big endian)
//	     0      8  "TIDEWORK"
//	     8      8  the run's seed: another run's blocks are foreign
//	    16      8  image
//	    24      8  block of the image
//	    32      8  number of the write, from 1, over all images
//	    40      …  noise that follows from the fields above
//	  last      8  xxHash64 of everything before
//
// A write may also be one of zeroes (a discard, a zeroing). Its blocks do not say whose
// they are.
//
// # When a content is a prefix
//
// Writes that are in flight together never overlap, so the writes of one block are
// ordered by their numbers. Two writes are ordered only if one was acknowledged before
// the other was submitted; a log may order all others as it likes. A set of writes is a
// prefix of some order that the log may have chosen if, and only if, it is closed: no
// missing write was acknowledged before a present one was submitted. And each write is
// whole: all of its blocks or none.
//
// So the content of all images together is a prefix exactly if there is a closed set of
// writes whose last one, at each block, is what the block holds. The judge finds the
// smallest such set: it begins with what must be there (nothing, what was flushed, or
// all that was acknowledged, whichever is asked), and adds a write only where a block
// cannot be explained otherwise, together with all that must come before it. Every step
// is forced, so if the steps end in a block that fits nothing, no set does.
//
// Times are ticks of one counter over all images, taken before a write is sent and
// after its answer has come. Both errors (earlier, later) make an order that was there
// look absent, never the reverse: what is reported is a fault.
//
// After a crash [Workload.Continue] takes what was seen for the state from which
// everything goes on: a write that nobody answered is there from now on, or never.
package workload
