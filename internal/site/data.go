package site

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tidemark/events"
	"tidemark/internal/fault"
)

const (
	dataIDFile     = "node.id"
	dataIDBytesMax = 64
)

// DataID returns the random id of a data folder, and gives it one if it has none. Two
// processes on one folder have the same; two nodes by one name have not, however alike
// their folders look: that is how they are told apart.
func DataID(dir string) (string, error) {
	name := filepath.Join(dir, dataIDFile)
	id, err := readDataID(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := createDataID(dir, name); err != nil {
		return "", fmt.Errorf("give the data folder an id: %w", err)
	}
	return readDataID(name)
}

func readDataID(name string) (string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read the id of the data folder: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if id == "" || len(id) > dataIDBytesMax || events.Token(id) != id {
		return "", fault.New(fault.Corrupt, "%s holds no id: remove it while nothing runs on this folder, and a new one is made", name)
	}
	return id, nil
}

// createDataID makes the file appear whole or not at all, and leaves alone one that
// another process of the node was faster to make.
func createDataID(dir, name string) (err error) {
	id, err := NewID()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, dataIDFile+".*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.WriteString(id + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
