package replica

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Bounds of what another site says that a directory has, before anything is made for it.
const (
	// listedMax bounds the images, the snapshots, the layers, the tags and the unfinished
	// operations, each: a layer takes an open file, and no process has more.
	listedMax = 1 << 18
	// tokensMax bounds all names, values and brackets.
	tokensMax = 1 << 24
)

// DecodeSyncStart decodes a [SyncStart] that another site has sent. One that lists more than
// any directory has is corrupt, and is not taken apart.
func DecodeSyncStart(data []byte) (SyncStart, error) {
	var start SyncStart
	err := decodeListing(data, &start)
	return start, err
}

// DecodeOutline is DecodeSyncStart for an [Outline].
func DecodeOutline(data []byte) (Outline, error) {
	var outline Outline
	err := decodeListing(data, &outline)
	return outline, err
}

func decodeListing(data []byte, out any) error {
	if err := checkListing(data, tokensMax); err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return corrupt("what a site says that it has: %w", err)
	}
	return nil
}

// checkListing counts what the lists of a JSON object hold, without keeping any of it, and
// refuses more than most names, values and brackets.
func checkListing(data []byte, most int) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	depth, listed := 0, 0 // of the list that is being read
	for tokens := 0; tokens == 0 || depth > 0; tokens++ {
		token, err := dec.Token()
		switch {
		case err != nil:
			return corrupt("what a site says that it has: %w", err)
		case tokens > most:
			return corrupt("a site says that it has more than any directory: more than %d names and values", most)
		}
		delim, _ := token.(json.Delim)
		switch delim {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		opens := delim == '{' || delim == '['
		switch {
		case depth <= 1:
			listed = 0
		case depth == 3 && opens || depth == 2 && delim == 0: // one more of the list
			if listed++; listed > listedMax {
				return corrupt("a site says that it has more than any directory: more than %d of a kind", listedMax)
			}
		}
	}
	if dec.More() {
		return fmt.Errorf("what a site says that it has: %w", corrupt("something follows it"))
	}
	return nil
}
