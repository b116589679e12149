// Package workload makes writes that can be recognised, remembers when each was
// submitted and acknowledged, and judges what images hold afterwards. It does no I/O
// and reads no clock: the demo and the tests carry the writes out.
//
// # What a block holds
//
// Every write is of whole blocks of 4 KiB. Each block says which write put it where:
//
//	offset  bytes  field (big endian)
//	     0      8  "TIDEWORK"
//	     8      8  the run's seed: another run's blocks are foreign
//	    16      8  image
//	    24      8  block of the image
//	    32      8  number of the write, from 1, over all images
//	    40   4048  noise that follows from the fields above
//	  4088      8  xxHash64 of everything before
//
// # When a content is a prefix
//
// Writes that are in flight together never overlap, so the writes of one block are
// ordered by their numbers: a block that holds write c shows that all its writes up to
// c are present and all later ones missing. Two writes are ordered only if one was
// acknowledged before the other was submitted; a log may order all others as it likes.
// So the content of all images together is a prefix of some order that the log may
// have chosen if, and only if, no missing write was acknowledged before a present one
// was submitted. A write that was overwritten is present exactly if a later write of
// its block is: it was acknowledged before the later one was submitted, so counting it
// changes nothing.
//
// Times are ticks of one counter over all images, taken before a write is sent and
// after its answer has come. Both errors (earlier, later) make an order that was there
// look absent, never the reverse: what is reported is a fault.
package workload
