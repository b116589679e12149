package dashboard

import (
	"strconv"
	"strings"
	"time"
)

// count writes a number with commas between thousands.
func count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural writes a number of things.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// shortSeconds writes a duration in seconds in as few characters as tell it.
func shortSeconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case s < 0.05:
		return "0 s"
	case s < 10:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	default:
		return age(d)
	}
}

// age writes a duration by its largest unit, and by two from a minute on.
func age(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return two(int(d/time.Minute), "min", int(d%time.Minute/time.Second), "s")
	case d < 24*time.Hour:
		return two(int(d/time.Hour), "h", int(d%time.Hour/time.Minute), "min")
	}
	return two(int(d/(24*time.Hour)), "d", int(d%(24*time.Hour)/time.Hour), "h")
}

func two(n int, unit string, rest int, restUnit string) string {
	s := strconv.Itoa(n) + " " + unit
	if rest > 0 {
		s += " " + strconv.Itoa(rest) + " " + restUnit
	}
	return s
}

// words turns a name in snake case into words.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }
