// Package nbdclient is a small NBD client: pipelined, without cgo, for the demo, for
// measurements and for tests. A [Conn] is used by many goroutines at a time; their
// requests share one connection, and replies find them by cookie.
//
// What the server sends is checked like any foreign input: a reply that fits no
// request, or says more than was asked for, breaks the connection. A connection that
// is broken stays so; every later call returns the reason.
package nbdclient
