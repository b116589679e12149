package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	barWidth    = 30
	barInterval = 100 * time.Millisecond
	lineStep    = 25 // percent between lines where there is no terminal
)

// progress shows how long work goes on: a bar on a terminal, lines elsewhere.
type progress struct {
	w     io.Writer
	bar   bool
	unit  func(uint64) string // how amounts are written
	stage string
	drawn time.Time // last redraw of the bar
	told  int       // percent of the last line
	open  bool      // the bar's line is not ended
}

func (c *cli) progress() *progress {
	if c.noProgress {
		return &progress{w: io.Discard, unit: formatSize}
	}
	return &progress{w: c.messages, unit: formatSize, bar: onTerminal(c.messages)}
}

// begin starts a stage of the work.
func (p *progress) begin(stage string) {
	p.end()
	p.stage, p.told, p.drawn = stage, 0, time.Time{}
	if p.bar {
		p.draw(stage)
		return
	}
	p.print(stage + "\n")
}

// at says how much of the stage is done.
func (p *progress) at(done, total uint64) {
	done = min(done, total)
	percent := 100
	if total > 0 {
		percent = int(done * 100 / total)
	}
	switch {
	case p.bar && (time.Since(p.drawn) >= barInterval || done == total):
		p.drawn = time.Now()
		filled := percent * barWidth / 100
		p.draw(fmt.Sprintf("%s [%s%s] %3d%% of %s", p.stage,
			strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), percent, p.unit(total)))
	case !p.bar && percent >= p.told+lineStep:
		p.told = percent - percent%lineStep
		p.print(fmt.Sprintf("%s: %d%% of %s\n", p.stage, p.told, p.unit(total)))
	}
}

// draw replaces the terminal's line.
func (p *progress) draw(text string) {
	p.print("\r\x1b[K" + text)
	p.open = true
}

// end leaves the last bar standing.
func (p *progress) end() {
	if p.open {
		p.print("\n")
		p.open = false
	}
}

func (p *progress) print(s string) { _, _ = io.WriteString(p.w, s) } // best effort
