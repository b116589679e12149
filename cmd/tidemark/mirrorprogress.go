package main

import (
	"fmt"
	"time"

	"tidemark/internal/api"
)

// copied tells in one line how far a first sync or a resync has come.
func copied(p *api.Progress) string {
	if p == nil {
		return "not begun"
	}
	line := fmt.Sprintf("%d of %d objects, %s", p.Objects, p.ObjectsTotal, formatSize(p.Bytes))
	if p.BytesTotal > 0 {
		line += " of " + formatSize(p.BytesTotal)
	}
	if p.Rate >= 1 {
		line += ", " + formatSize(uint64(p.Rate)) + "/s"
	}
	if p.SecondsLeft > 0 {
		left := time.Duration(p.SecondsLeft * float64(time.Second))
		line += ", " + left.Round(time.Second).String() + " left"
	}
	return line
}
