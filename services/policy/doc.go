// Package policy owns the map: which directories there are, which node holds each of
// them, and in which role; the pools that they lie in, and the sites that share a pool.
//
//	in   tidemark.pool.>       its own facts, and the site's identity
//	     tidemark.position.*.*.measured  DirectoryMeasured (of the replayers)
//	     tidemark.directory.>  its own facts
//	     tidemark.instance.>   InstanceAdded, InstanceRemoved (of the notifier)
//	     tidemark.ack.>        AcquireAcknowledged, ReleaseAcknowledged (of the notifier)
//	     tidemark.api.*.*      requests; package api lists them
//	out  tidemark.position.>   PositionsFenced
//	     tidemark.pool.>       PoolCreated, MirrorEnabled, TokenCreated, PeerAdded, …
//	     tidemark.directory.>  DirectoryCreated, DirectoryMapped, PromotionRequested,
//	                           ResyncRequested, DirectoryConfigured, …
//	     tidemark.notify.NODE  AcquireRequested, ReleaseRequested
//
// # The state of a directory
//
//	                     map, acquire                      promote, demote: release,
//	   ┌──────────────┐  ┌─────────────┐  acknowledged  ┌────────────┐  map, acquire  ┌───────────┐
//	──►│ unassociated ├─►│ associating ├───────────────►│ associated ├───────────────►│ shuffling │
//	   └──────┬───────┘  └──┬──────▲───┘                └─────┬──────┘                └─────┬─────┘
//	          │             │      └──────────────────────────┼─────────────────────────────┘
//	          │ remove      │ remove   the node starts again, │ remove
//	          │             │          dies: map elsewhere    │
//	          │             ▼                                 ▼
//	          │          ┌────────────────┐  released, copy deleted
//	          └─────────►│ disassociating ├─────────────────────────► forgotten
//	                     └────────────────┘
//
// Stalled is no state of its own: it is set where the next step needs a live node and
// there is none, and ends when one comes. The next desired state is the directory's
// [Intent] together with Removing: it can change at any time, and the step under way is
// acknowledged before the next one begins.
//
// A state is not stored. It follows from the facts by the table below, which is [Decide]'s
// own (func table), read from the top: the first row that holds decides. "Asked" is a
// request that a live instance has not acknowledged; a "holder" was asked to acquire, has
// not let go, and lives; the "target" is the live instance that the mapping names.
//
//	state           row                        when                                            then
//	fencing         fence                      a gone instance was asked to acquire            fence, DirectoryFenced
//	disassociating  removal asked              removing, anything asked                        wait
//	associating     acquire asked                                                              wait
//	shuffling       release asked                                                              wait
//	unassociated    forgotten                  removed, and nobody is left who has it          nothing
//	disassociating  removal refused            it failed for good: not empty                   RemovalRefused
//	disassociating  remove from holder         removing, a holder                              ReleaseRequested (remove)
//	disassociating  remove copy                removing, the mapped node lives                 ReleaseRequested (remove)
//	disassociating  remove other copy          removing, a node that had it before lives       ReleaseRequested (remove)
//	disassociating  forget                     removing                                        DirectoryForgotten
//	shuffling       superseded holder          a holder not the target, or replaced once       ReleaseRequested
//	shuffling       change of role refused     it failed for good                              RoleChangeRefused
//	associating     map again                  its epoch was fenced, the node lives anew       DirectoryMapped
//	shuffling       demote                     owned, wanted as slave, held                    ReleaseRequested (demote)
//	shuffling       demote unheld              the same, not held, the target lives            ReleaseRequested (demote)
//	shuffling       place to demote            the same, another node lives                    DirectoryMapped (master)
//	shuffling       no node to demote          the same, stalled                               wait
//	shuffling       no node for the new role   mapped in another role, stalled                 wait
//	shuffling       let go of the old role     mapped in another role, held                    ReleaseRequested
//	shuffling       map in the new role        mapped in another role                          DirectoryMapped
//	shuffling       let go to resync           a replica, held, acquired before the request    ReleaseRequested
//	unassociated    no node                    no target, no other node: stalled               wait
//	unassociated    map                        no target                                       DirectoryMapped
//	shuffling       rebalance                  a replica, held long enough, one node has less  DirectoryMapped
//	associated      held                       the target acknowledged this epoch              nothing
//	associating     return to the copy         a master failed, a newer copy is elsewhere      DirectoryMapped
//	associating     move elsewhere             a replica, 8 failures, another node lives       DirectoryMapped
//	associating     acquire                    otherwise                                       AcquireRequested
//
// A resync is asked for by a number that grows (ResyncRequested). Whoever holds the replica
// lets go of it, and is asked to acquire it again with that number; every later acquire
// carries it too, so that the node which has done it knows so, and one that has not does it,
// whatever died meanwhile. A promotion that is asked for afterwards ends the request.
//
// A request that failed is made again to the same instance after 1 s, doubling to 30 s; a
// new incarnation is asked at once. A promotion or demotion ends at the first failure
// that will not pass (split_brain, busy, …), or at the fifth of any kind: the directory
// then returns to the role that it had.
//
// # Placement
//
// Where a replica goes is decided by what the nodes have (placement.go, spread.go): to the live node
// with the least, of equals the one with fewer of the same pool, then the first by name. A
// node is given up for balance only by its surplus, to the node with the least, and only by
// a replica that is held, complete, and has been there for the throttle (300 s, or what
// PlacementConfigured says). The moment at which a throttle ends is known, so the service
// looks again then; nothing has to happen for it. A node's death ignores the throttle.
//
// What counts is the number of directories, or the size or the write rate of each. Those are
// facts of the log: a holder tells what its copy amounts to when that has doubled or halved,
// once in 10 minutes at most (DirectoryMeasured). A move must leave its node heavier than the
// one it goes to by a fifth of the mean; so no wavering of a measure moves anything back.
//
// A move is one mapping: DirectoryMapped says the new intention first, then the old node is
// asked to let go, and when it has done so, quiesced, the new one is asked to acquire. So the
// log always names the last intended owner, whatever dies in between.
//
// A master is never moved for balance: its data lies at its node. When that dies it goes to a
// node that has a copy too, if there is one, else to any: that opens it only if the journal
// still holds all of it, and gives it back as soon as a node with a copy lives.
//
// A node that a replica has left keeps its copy, as long as the directory is there: it is the
// only one that is complete until the new one is, and when the replica comes back it goes on
// from there, if it still fits the site's journal; else it is served until a new one has taken
// its place, as by a resync (AcquireRequested.Elsewhere). The new one is prepared beside the
// site's journal, which stays that of the old one until then. So when the primary is lost
// while a replica moves, a promotion with force maps the directory to the node of the complete
// copy. When the directory is removed, every node that has a copy deletes it.
//
// Such an old copy is shown with the directory. An operator may have it deleted: policy asks the
// node by a release with Discard, which says nothing about who holds the directory, is made
// once, and is waited for by nobody but the command. The node decides, after it has asked the
// holder (package replayer).
//
// # Many at a time
//
// Directories are decided about in batches. What a batch maps, its later decisions see; its
// facts go to their stream together, each on the condition that the one before it is the last
// message. Where another writer was faster, the rest is decided again. A command waits for
// one batch at most.
//
// # Invariants
//
//   - A node is asked to acquire a directory only when every other instance that may hold
//     it has let go of it, quiesced, or its incarnation is gone and its epoch fenced.
//   - The epoch of a directory grows with each mapping, and every request carries the one
//     in force. It outlives the directory: one that is created under the same name later
//     goes on from there. An acknowledgement counts only if it repeats an open request exactly.
//   - A directory that the site owns is mapped as a slave only after a release that
//     demoted it: the end of the ownership stands in the journal.
//   - Each fact that depends on the state is published on the condition that the state is
//     the newest of its stream; two policies may run. A command is answered when its fact
//     is durable and folded.
//   - An orderly promotion is proposed in the log before the other sites are asked, and a
//     site that has proposed one says so to who asks. So of two sites that promote at a
//     time at most one does; both may be refused, and both can try again. All that another
//     site has of the directory must be here: the demotion that the journal ends with here
//     may not be the last one.
//   - What the log shows as requested or acknowledged is never requested again.
//   - A replica that is held leaves a node that lives only for balance, never within the
//     throttle, and never more of them than an even spread needs.
//   - Of a token's secret only the hash is kept. It is in no log line, error or fact.
//
// # Fencing
//
// An instance that is gone by INSTANCES, and was asked to acquire a directory that it has not
// let go of, may be dead, or may only have been stopped, and go on at any instruction. So
// before the directory is given on, in this order:
//
//	POSITIONS    PositionsFenced  at tidemark.position.DIRECTORY.holder.fence, with the epoch
//	             in which it was asked, over the newest one, which has a lower epoch
//	DIRECTORIES  DirectoryFenced  the same epoch; the state folds only this
//	DIRECTORIES  DirectoryMapped  a higher epoch; to the same node if it lives anew
//
// A holder publishes its commit positions on the condition that the fence which it knows is
// the newest of its subject (package holder, Tenure). So from the first message on, the log
// itself refuses every word of an assignment up to that epoch, and the holder learns it from
// the refusal; what stands there of it was stored before. One fence covers all earlier
// epochs, hence whoever was fenced before.
//
// A replica's holder writes nothing else that others rely on: its copy is its own, and what it
// appends to the site's journal is refused once its successor has appended. A primary's
// holder is fenced in two steps. The fence keeps it from claiming a tag: it asks at each
// claim, after it knows the end that it claims behind. Its successor's claim, which comes
// later, takes the right to append from it. Until that claim it may still acknowledge
// writes, which its successor then finds behind its own end; from then on the journal
// refuses it. So at each moment one may write, and never two.
//
// # Peers, and what is no loop
//
// What flows between sites is directories, and each has one primary, which follows nobody.
// So peers may form any graph: both ways (rx-tx is the default), chains, rings. Two that
// follow each other only wait for whoever is primary, and any of several peers can be
// primary of a directory. Refused is only what cannot be told apart: a site as its own
// peer, whatever its token says, a site that is a peer of the pool already, and two sites
// of one name. An import that adds the other direction to a peer that receives only makes
// that both ways.
//
// An import asks the other site first and adds the peer last. Cut short anywhere, it is made
// again with the same token, and adds nothing twice.
//
// Mirroring is turned off with everything in place: peers, map and copies stay. Replicas
// stand still at a site where it is off, and go on when it is on again.
//
// # When a step fails
//
//   - The service dies anywhere: the next one folds the streams and decides the same; the
//     facts are the only state. Between DirectoryMapped and AcquireRequested, the acquire
//     follows; between AcquireRequested and its acknowledgement, the notifier goes on.
//   - The log refuses a fact (full, unreachable): a command is answered with the error, a
//     step is tried again after 1 s on the state as it is then. If only the answer was
//     lost, the state shows the fact.
//   - Another writer was faster: the state is caught up and the decision made again.
//   - A node dies: the notifier says so; its directories go to a live node, or are stalled
//     until it comes back. It never acknowledges for its successor: incarnations differ.
//   - A node that was taken for dead goes on: the log refuses what it says, see Fencing. It
//     lets go of everything by itself, and comes back as a new incarnation. (In the log of
//     an older program the same incarnation may come back: it is asked to let go.)
//   - The fence cannot be stored (POSITIONS is full, the log is unreachable): the directory
//     stays fencing, mapped as it was, and it is tried again after 1 s. Nobody is asked for
//     anything meanwhile.
//   - The service dies between the fence and DirectoryFenced: the next one finds the fence,
//     and says so. A fence by one that was stopped for long, and hits who came since in the
//     same epoch: that one finds itself fenced, and its node begins anew.
//   - A node with a copy is gone while the directory is removed: the directory is
//     forgotten, and its name is free. When the node comes back, it is asked to let go of
//     its copy and to delete it.
//   - An image is created while its directory is removed because it is empty: who holds the
//     directory looks after it has let go of it, and refuses; the directory stays.
//   - The service dies between a proposed promotion and its request: nothing is promoted,
//     and the proposal counts for nothing after 30 s. One older than 15 s is not carried out.
//   - The other site dies in an import: it may list us as a peer already; the import is
//     repeated with the same token and changes nothing twice.
//   - A pool is removed at one policy while a directory is created in it at another: both
//     can succeed, since they are facts of two streams. The directory is listed, and is
//     reachable again once the pool is created again.
package policy
