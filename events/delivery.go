package events

import "strconv"

// TurnDerived says how far the notifier has made notes of the facts of a stream, so that
// one that starts notes none again, however many notes have been dropped since.
type TurnDerived struct {
	Cause Cause   `json:"cause"` // of the last note
	Note  uint64  `json:"note"`  // its sequence in LIFECYCLE
	At    Instant `json:"at"`
}

// LetterDied says that a note could not be delivered to a webhook, and that it is not
// tried any more unless somebody asks for it.
type LetterDied struct {
	Webhook string `json:"webhook"` // name: a hash of the URL, which may be a secret itself
	Host    string `json:"host"`    // of the URL
	// Sequence is the note's in LIFECYCLE. It names the letter.
	Sequence uint64         `json:"sequence"`
	Turn     LifecycleNoted `json:"turn"`
	Tries    uint64         `json:"tries"`
	Error    string         `json:"error"` // of the last one
	At       Instant        `json:"at"`
}

// LetterResent says that a dead letter is to be tried again: it is dead no more.
type LetterResent struct {
	Webhook  string         `json:"webhook"`
	Host     string         `json:"host"`
	Sequence uint64         `json:"sequence"`
	Turn     LifecycleNoted `json:"turn"`
	At       Instant        `json:"at"`
}

// LetterDiscarded says that nobody wants to hear a dead letter any more.
type LetterDiscarded struct {
	Webhook  string  `json:"webhook"`
	Sequence uint64  `json:"sequence"`
	At       Instant `json:"at"`
}

const deliveryPrefix = "tidemark.delivery."

// LettersSubject matches what became of the letters of a webhook that died; "*" is
// every webhook.
func LettersSubject(webhook string) string { return deliveryPrefix + "letter." + webhook + ".*" }

// DerivedSubject matches what TurnDerived says of all streams.
const DerivedSubject = deliveryPrefix + "derived.*"

func letterSubject(webhook string, sequence uint64) string {
	return deliveryPrefix + "letter." + Token(webhook) + "." + strconv.FormatUint(sequence, 10)
}

func (*TurnDerived) Kind() string     { return "turn_derived" }
func (*LetterDied) Kind() string      { return "letter_died" }
func (*LetterResent) Kind() string    { return "letter_resent" }
func (*LetterDiscarded) Kind() string { return "letter_discarded" }

func (f *TurnDerived) Subject() string     { return deliveryPrefix + "derived." + Token(f.Cause.Stream) }
func (f *LetterDied) Subject() string      { return letterSubject(f.Webhook, f.Sequence) }
func (f *LetterResent) Subject() string    { return letterSubject(f.Webhook, f.Sequence) }
func (f *LetterDiscarded) Subject() string { return letterSubject(f.Webhook, f.Sequence) }
