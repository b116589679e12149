package dashboard

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// samplesMax are kept of each series, one for each sampleAge: ten minutes.
	samplesMax = 120
	sampleAge  = 5 * time.Second
	// drawnMin is how many make a picture.
	drawnMin = 4
)

// series is a ring of samples, oldest first from next.
type series struct {
	samples [samplesMax]float32
	next, n int
}

func (s *series) add(v float64) {
	s.samples[s.next] = float32(v)
	s.next = (s.next + 1) % samplesMax
	s.n = min(s.n+1, samplesMax)
}

// values returns the samples, oldest first.
func (s *series) values() []float32 {
	out := make([]float32, 0, s.n)
	for i := range s.n {
		out = append(out, s.samples[(s.next-s.n+i+samplesMax)%samplesMax])
	}
	return out
}

// The chart's size, in the units of its view box.
const (
	chartWidth  = 120
	chartHeight = 24
)

// Chart is a small picture of a series.
type Chart struct {
	Points string // of a polyline
	Area   string // of the polygon under it
	Label  string // what it shows, in words
}

// chart draws a series so that a lag of floor seconds or more takes the whole height. A series
// of fewer than drawnMin samples has no picture.
func (s *series) chart(floor float64) *Chart {
	values := s.values()
	if len(values) < drawnMin {
		return nil
	}
	highest := values[0]
	for _, v := range values {
		highest = max(highest, v)
	}
	scale := max(float64(highest), floor)
	var points strings.Builder
	first := samplesMax - len(values)
	for i, v := range values {
		x := float64(first+i) * chartWidth / (samplesMax - 1)
		y := (chartHeight - 2) - float64(v)/scale*(chartHeight-4) + 1
		if i > 0 {
			points.WriteByte(' ')
		}
		points.WriteString(strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64))
	}
	left := strconv.FormatFloat(float64(first)*chartWidth/(samplesMax-1), 'f', 1, 64)
	span := time.Duration(len(values)-1) * sampleAge
	return &Chart{
		Points: points.String(),
		Area:   left + "," + strconv.Itoa(chartHeight) + " " + points.String() + " " + strconv.Itoa(chartWidth) + "," + strconv.Itoa(chartHeight),
		Label:  fmt.Sprintf("lag over the last %s: at most %s, now %s", age(span), shortSeconds(float64(highest)), shortSeconds(float64(values[len(values)-1]))),
	}
}
