package tail

import (
	"tidemark/events"
	"tidemark/internal/fault"
)

// RunBytesMax bounds the messages of one run, in bytes: the largest request of a client
// is 32 MiB, the rest is what is around its data and in the buffers that hold it. A run
// is applied only when it is complete, so it must leave room for its own end: RunBytesMax
// is less than [UnappliedBytesMax] by far more than a message.
const RunBytesMax = 48 << 20

// How much is applied at once, in bytes: steps are added until they reach it. More together
// cost less (what lies side by side is written at once, what is overwritten is not), but
// keep their memory, and hold up whoever asks the replica something meanwhile, such as an
// operation.
const (
	stepsBytes        = 8 << 20
	stepsBytesServing = 1 << 20 // while clients are served from the replica
)

// nextSteps returns how many messages at the head of a queue can be applied now: those of
// the steps that are decided by messages up to safe, until they have a number of bytes, but
// one step at least.
func nextSteps(queue []item, safe uint64, enough int) (int, error) {
	n, bytes := 0, 0
	for n < len(queue) && bytes < enough {
		next, err := nextStep(queue[n:])
		switch {
		case err != nil && n > 0:
			return n, nil // the error is met again when it has come to the head
		case err != nil:
			return 0, err
		case next.decided == 0 || next.decided > safe:
			return n, nil
		}
		for _, it := range queue[n : n+next.messages] {
			bytes += it.bytes
		}
		n += next.messages
	}
	return n, nil
}

// step is the messages at the head of a queue that are applied as one: a message by
// itself, or those of a run that spans messages.
type step struct {
	messages int
	// decided is the sequence of the message that decides about the step, and must be
	// safe before it is taken: its last one, or the one that breaks its run off. Zero
	// while there is none yet.
	decided uint64
}

// nextStep finds the step at the head of a queue that is not empty. A run that is longer
// than [RunBytesMax] is no writer's of ours ([fault.Corrupt]).
func nextStep(queue []item) (step, error) {
	bytes := 0
	for i, it := range queue {
		if i > 0 && !continues(queue[i-1].message, it.message) {
			return step{i, it.seq}, nil // the run broke off
		}
		if !open(it.message) {
			return step{i + 1, it.seq}, nil
		}
		if bytes += it.bytes; bytes > RunBytesMax {
			return step{}, fault.New(fault.Corrupt, "a change that begins in message %d takes more than %d bytes", queue[0].seq, RunBytesMax)
		}
	}
	return step{messages: len(queue)}, nil
}

// open reports whether a message ends inside a run.
func open(m events.JournalMessage) bool {
	b, ok := m.(*events.Batch)
	return ok && b.Open()
}

// continues reports whether a message goes on with the run that the one before it ended in.
func continues(before, m events.JournalMessage) bool {
	b, ok := before.(*events.Batch)
	next, isBatch := m.(*events.Batch)
	return ok && isBatch && next.Tag == b.Tag &&
		next.Entries[0].Part.Continues(b.Entries[len(b.Entries)-1].Part)
}
