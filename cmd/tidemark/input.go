package main

import (
	"fmt"
	"io"
	"os"

	"tidemark/internal/fault"
)

// fileOrStdin reads a whole file of at most limit bytes; "-" is standard input.
func fileOrStdin(c *cli, name string, limit int64) ([]byte, error) {
	if name == "-" {
		return readLimited(c.in, limit)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.New(fault.Usage, "%w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return readLimited(f, limit)
}

// readLimited reads all of r, which must not hold more than limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read input: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Usage, "the input is longer than %d bytes", limit)
	}
	return data, nil
}
