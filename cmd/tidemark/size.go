package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"tidemark/internal/overview"
)

// size is a flag for a number of bytes: 512, 64KiB, 1GiB, 10G. All units are powers of
// 1024, as rbd and qemu-img read them.
type size uint64

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	v, err := parseSize(text)
	if err == nil {
		*s = size(v)
	}
	return err
}

// String implements pflag.Value.
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return formatSize(uint64(*s))
}

// Type implements pflag.Value.
func (s *size) Type() string { return "size" }

// offset is a flag for a place in an image: a size that may be zero.
type offset uint64

// Set implements pflag.Value.
func (o *offset) Set(text string) error {
	if text == "0" {
		*o = 0
		return nil
	}
	return (*size)(o).Set(text)
}

// String implements pflag.Value.
func (o *offset) String() string { return (*size)(o).String() }

// Type implements pflag.Value.
func (o *offset) Type() string { return "size" }

func parseSize(text string) (uint64, error) {
	digits := strings.TrimRight(text, "KMGTPEiBkmgtpeb")
	unit := strings.ToUpper(text[len(digits):])
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("size %q: write it like 512, 64KiB, 1GiB or 10G", text)
	}
	shift, ok := unitShift(unit)
	switch {
	case !ok:
		return 0, fmt.Errorf("size %q: the unit is one of K, M, G, T or KiB, MiB, GiB, TiB", text)
	case n == 0:
		return 0, fmt.Errorf("size %q: it must be more than zero", text)
	case n > math.MaxInt64>>shift:
		return 0, fmt.Errorf("size %q: it is too large", text)
	}
	return n << shift, nil
}

// unitShift returns the binary logarithm of a unit in upper case.
func unitShift(unit string) (int, bool) {
	if unit == "" || unit == "B" {
		return 0, true
	}
	i := strings.IndexByte(overview.SizeUnits, unit[0])
	return 10 * (i + 1), i >= 0 && (len(unit) == 1 || unit[1:] == "IB")
}

// formatSize writes a size so that a person reads it and parseSize reads whole units back.
func formatSize(n uint64) string { return overview.Size(n) }
