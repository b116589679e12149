// Package wire holds the numbers and fixed layouts of the NBD protocol (fixed
// newstyle handshake, simple and structured replies) that server and client share.
// All integers on the wire are big-endian.
//
// A request is always 28 bytes, and the data of a WRITE follows it:
//
//	offset  bytes  field
//	     0      4  magic 0x25609513
//	     4      2  command flags
//	     6      2  command
//	     8      8  cookie, returned in the reply
//	    16      8  offset
//	    24      4  length
//
// A simple reply is 16 bytes, followed by the data of a successful READ:
//
//	0      4  magic 0x67446698
//	4      4  errno, 0 for success
//	8      8  cookie
//
// A structured reply is one or more chunks, the last with [ChunkDone] set:
//
//	 0      4  magic 0x668e33ef
//	 4      2  chunk flags
//	 6      2  chunk type
//	 8      8  cookie
//	16      4  length of the payload that follows
package wire
