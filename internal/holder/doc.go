// Package holder is what the services that hold directories have in common, whether they
// own them (journal) or follow them (replayer). [Service] is where to begin.
//
//	answers       Copy, Journal, Conflicts   what images, snapshots and journal there are
//	              Exports, ReadOnlyExport    images over NBD
//	              SyncSource                 what a follower copies, compares and registers for
//	              Reporting, Metrics         how all directories of the service are
//	the right     Tenure                     to hold a directory: it ends when policy fences it
//	the journal   OpenJournal, Clients       its stream, and who still needs what of it
//	the history   HistoryOf, Holding, Parting  ours and a peer's, and where they parted
//	space         Compaction                 gives back what a copy needs no more
//
// # Invariants
//
//   - What is published in POSITIONS under a [Tenure] is refused by the log once policy has
//     stored a later fence; the holder then stops, whatever it believes of itself.
//   - A client of a journal is registered, durably, before anything that it needs can be cut
//     ([Service.Register], [Clients.Needed]).
//   - Layers are not merged while a follower copies them ([Compaction.Hold]).
//   - Whoever asks about images or snapshots is answered from the settled copy: it sees what
//     was answered to anybody before.
package holder
