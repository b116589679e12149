// Package access says who may publish and subscribe to what at a site's NATS: pure data
// made of the subjects and streams in package events and the requests in package api.
// The embedded server and the configuration of an outside one are made from it.
//
// # One account, one user for each part
//
// Everything lives in one account. Each user is an nkey: its public half stands in the
// server's configuration, its seed in a file of who uses it, and never crosses the wire.
//
//	user                 may
//	journal, replayer    heartbeat; answer about directories; write journals, positions, heads
//	policy               POOLS, DIRECTORIES, requests to deliver; answer commands
//	notifier             INSTANCES, acknowledgements; acquire and release at the agents
//	node                 all of these: one process of a further machine
//	operator             ask everything that a command asks; read every stream; publish no fact
//	monitor              ask the services what changes nothing; read no stream
//	gate                 read POOLS and DIRECTORIES: who is a peer of which pool
//	peer                 of the pools that it shares: ask for directories, copy them, follow their
//	                     journals. Nothing else, and it publishes into no stream
//	joining              be let in with its token, until that was used or expires
//
// # What a grant cannot say
//
//   - A wildcard stands for a whole token of a subject, and a journal's stream is named by its
//     directory. So a service that makes journals may do so under any name, and is denied what
//     would change the site's own streams; a peer is granted each journal by name.
//
//   - Who may create a consumer may have the server deliver to any subject (a push consumer).
//     Services and operators may, and are trusted that far. A peer may, of the journals that it follows; see [Peer].
//
//   - The server does not look at where a reply is to go: who may ask it for anything can have
//     the answer delivered to a stream, or to a command of the server. So what a user can choose
//     the content of must not be something that it can also be answered with, and whoever is not
//     of the site itself, or only looks on, asks for nothing that is answered with an empty
//     message: that is a command to delete. See heed, and SECURITY.md for what is left.
//
// # Inboxes
//
// Answers go to subjects below _INBOX.<public key>, to which that user alone may subscribe;
// [Inbox] is what a connection must be given as its prefix. Services publish to every inbox,
// because they answer everybody: the server's own allow_responses would have to remember each
// message of a journal that was delivered, and of a request that takes hours.
package access
