package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
	"tidemark/internal/workload"
)

const (
	demoSize    = 256 << 20
	demoSizeMin = 4 << 20
	demoSizeMax = 64 << 30 // what is known of each block stands in memory
	demoPool    = "demo"
	demoImages  = 2
	// demoBlocksMax is the largest write: one entry of the journal, whole or absent.
	demoBlocksMax = 16
	pollInterval  = 50 * time.Millisecond
)

func newDemo(c *cli) *cobra.Command {
	var data string
	bytes := size(demoSize)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Mirror two images from one site to another, kill the first, and check both",
		Long: `Runs two sites, east and west, as two processes with folders of their own. An NBD
client writes to two images of one directory at east while west follows. East is killed
in the middle of it and west is promoted: it must hold a prefix of what was written,
both images at one position. East is started again: it must hold all that it had
acknowledged. Exits with 0 only if both hold.`,
		Args: takes(0, 0),
		RunE: c.action(func(ctx context.Context, _ []string) error {
			if bytes < demoSizeMin || bytes > demoSizeMax {
				return fault.New(fault.Usage, "size: at least %s, and at most %s", formatSize(demoSizeMin), formatSize(demoSizeMax))
			}
			return c.demo(ctx, data, uint64(bytes))
		}),
	}
	cmd.Flags().StringVar(&data, "data", "", "`folder` for the two sites, kept (default: a temporary one)")
	cmd.Flags().Var(&bytes, "size", "how much is written")
	return cmd
}

// demo is one run: two sites, and what was written to the first.
type demo struct {
	cli        *cli
	progress   *progress
	size       uint64
	east, west *demoSite
	directory  events.DirectoryName
	load       *workload.Workload
	result     demoResult
}

// demoResult is what the demo measured. Its keys are part of the interface.
type demoResult struct {
	OK       bool            `json:"ok"`
	Size     uint64          `json:"size_bytes"`
	Images   int             `json:"images"`
	Writes   int             `json:"acknowledged_writes"`
	Bytes    int64           `json:"acknowledged_bytes"`
	Seconds  float64         `json:"writing_seconds"`
	CatchUp  float64         `json:"catch_up_seconds"`
	Promoted float64         `json:"promotion_seconds"` // from the kill to the first read at west
	Restart  float64         `json:"restart_seconds"`   // of east, to the first read
	West     demoCheck       `json:"west"`
	East     demoCheck       `json:"east"`
	Position events.Position `json:"west_position"`
}

// demoCheck is what one site turned out to hold.
type demoCheck struct {
	OK                  bool    `json:"ok"`
	Error               string  `json:"error,omitempty"`
	PresentWrites       int     `json:"present_writes"`
	MissingEntries      int     `json:"missing_entries"` // acknowledged writes: one entry each
	MissingBytes        int64   `json:"missing_bytes"`
	MissingMilliseconds float64 `json:"missing_milliseconds"`
	MissingFlushed      int     `json:"missing_flushed_entries"`
}

func (c *cli) demo(ctx context.Context, data string, bytes uint64) error {
	folder, cleanUp, err := demoFolder(data)
	if err != nil {
		return err
	}
	defer cleanUp()
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return err
	}
	perImage := bytes / demoImages / workload.BlockSize * workload.BlockSize
	d := &demo{
		cli: c, progress: c.progress(), size: bytes,
		east:      &demoSite{name: "east", dir: filepath.Join(folder, "east"), executable: executable},
		west:      &demoSite{name: "west", dir: filepath.Join(folder, "west"), executable: executable},
		directory: events.DirectoryName{Pool: demoPool, Path: "/prod/db"},
		load: workload.New(workload.Config{
			Seed: binary.BigEndian.Uint64(seed[:]), Images: demoImages, ImageBytes: perImage, BlocksMax: demoBlocksMax,
		}),
		result: demoResult{Size: bytes, Images: demoImages},
	}
	defer d.progress.end()
	err = d.run(ctx, perImage)
	d.progress.end()
	stopped := errors.Join(d.east.end(), d.west.end())
	if err != nil {
		return err
	}
	if stopped != nil {
		return stopped
	}
	if err := c.show(d.result, d.result.table); err != nil {
		return err
	}
	if !d.result.OK {
		return fmt.Errorf("the demo failed: %w", d.result.failure())
	}
	return nil
}

// demoFolder returns the absolute path of the folder for both sites.
func demoFolder(data string) (folder string, cleanUp func(), err error) {
	if data == "" {
		folder, err = os.MkdirTemp("", "tidemark-demo-")
		return folder, func() { _ = os.RemoveAll(folder) }, err // a temporary folder: best effort
	}
	if folder, err = filepath.Abs(data); err != nil {
		return "", nil, err
	}
	for _, site := range []string{"east", "west"} {
		if _, err := os.Lstat(filepath.Join(folder, site)); err == nil {
			return "", nil, fault.New(fault.Exists, "%s holds a site already: give the demo an empty folder", filepath.Join(folder, site))
		}
	}
	return folder, func() {}, os.MkdirAll(folder, 0o700)
}

// run is the demo from the first start to the last check.
func (d *demo) run(ctx context.Context, perImage uint64) error {
	if err := d.setUp(ctx, perImage); err != nil {
		return err
	}
	w, err := d.dialWriters(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	first := d.size - d.size/4
	d.progress.begin("writing to east")
	if err := w.writeTo(ctx, first); err != nil {
		return err
	}
	d.progress.begin("west catches up")
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	d.progress.begin("writing to east, which is killed in the middle of it")
	if err := w.writeUntilKilled(ctx, d.size, d.east.kill); err != nil {
		return err
	}
	d.result.Seconds = w.writing.Seconds()
	d.result.Writes, d.result.Bytes = d.load.Written()
	if err := d.failOver(ctx); err != nil {
		return err
	}
	if err := d.restart(ctx); err != nil {
		return err
	}
	d.result.OK = d.result.West.OK && d.result.East.OK
	return nil
}

// setUp starts both sites, makes them peers, and lets west follow east's directory.
func (d *demo) setUp(ctx context.Context, perImage uint64) error {
	d.progress.begin("starting the sites east and west")
	ctx, cancel := context.WithTimeout(ctx, 2*d.cli.timeout)
	defer cancel()
	for _, s := range []*demoSite{d.east, d.west} {
		if err := s.start(ctx); err != nil {
			return err
		}
		if _, err := call[api.Pool](ctx, s.client, api.PoolCreate, api.Pool{Pool: demoPool}); err != nil {
			return fmt.Errorf("%s: create the pool: %w", s.name, err)
		}
		if _, err := call[api.Pool](ctx, s.client, api.MirrorEnable, api.Pool{Pool: demoPool}); err != nil {
			return fmt.Errorf("%s: enable mirroring: %w", s.name, err)
		}
	}
	for i := range demoImages {
		name := events.ImageName{DirectoryName: d.directory, Image: demoImage(i)}
		if _, err := d.east.client.createImage(ctx, name, perImage, 0); err != nil {
			return fmt.Errorf("create image %s: %w", name, err)
		}
	}
	token, err := call[api.PeerTokenReply](ctx, d.east.client, api.PeerToken, api.PeerTokenRequest{Pool: demoPool, Expires: time.Hour})
	if err != nil {
		return fmt.Errorf("create a token: %w", err)
	}
	request := api.PeerImportRequest{Pool: demoPool, Token: token.Token, Direction: events.ReceiveAndSend}
	if _, err := call[api.Peer](ctx, d.west.client, api.PeerImport, request); err != nil {
		return fmt.Errorf("import the token: %w", err)
	}
	if _, err := call[api.Directory](ctx, d.west.client, api.MirrorAdd, d.directory); err != nil {
		return fmt.Errorf("follow %s: %w", d.directory, err)
	}
	return nil
}

func demoImage(i int) string { return fmt.Sprintf("disk%d", i) }

// catchUp waits until west has all that east has. It gives up when west stands still.
func (d *demo) catchUp(ctx context.Context) error {
	began, moved := time.Now(), time.Now()
	var last mirrorState
	for {
		states, err := d.west.client.mirrorStates(ctx, []string{d.directory.String()})
		if err != nil {
			return fmt.Errorf("west: %w", err)
		}
		west := states[0]
		if west.State == "split_brain" {
			return fmt.Errorf("west: %s: %s", west.State, west.Error)
		}
		if west.State == "replaying" && west.Entries == 0 {
			source, err := d.east.client.mirrorStates(ctx, []string{d.directory.String()})
			if err != nil {
				return fmt.Errorf("east: %w", err)
			}
			if source[0].Position == west.Position {
				d.result.CatchUp = time.Since(began).Seconds()
				return nil
			}
		}
		if west.Position != last.Position || west.State != last.State || west.Progress != nil {
			moved, last = time.Now(), west
		}
		if time.Since(moved) > d.cli.timeout {
			return fault.New(fault.Timeout, "west does not catch up: %s at %s, %d entries behind (%s)", west.State, west.Position, west.Entries, west.Error)
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// failOver promotes west and checks what it holds.
func (d *demo) failOver(ctx context.Context) error {
	d.progress.begin("promoting west")
	killed := time.Now()
	limited, cancel := context.WithTimeout(ctx, d.cli.timeout)
	defer cancel()
	if _, err := d.west.client.promote(limited, d.directory, true); err != nil {
		return fmt.Errorf("promote west: %w", err)
	}
	states, err := d.west.client.mirrorStates(limited, []string{d.directory.String()})
	if err != nil {
		return fmt.Errorf("west: %w", err)
	}
	d.result.Position = states[0].Position
	verdict, opened, err := d.verify(ctx, d.west, true)
	if err != nil {
		return err
	}
	d.result.Promoted = opened.Sub(killed).Seconds()
	d.result.West = checked(verdict, verdict.Prefix())
	return nil
}

// restart starts east again and checks what it holds.
func (d *demo) restart(ctx context.Context) error {
	d.progress.begin("starting east again")
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, d.cli.timeout)
	defer cancel()
	if err := d.east.start(limited); err != nil {
		return err
	}
	verdict, opened, err := d.verify(ctx, d.east, false)
	if err != nil {
		return err
	}
	d.result.Restart = opened.Sub(began).Seconds()
	d.result.East = checked(verdict, verdict.Complete())
	return nil
}

func checked(v workload.Verdict, err error) demoCheck {
	c := demoCheck{
		OK: err == nil, PresentWrites: v.Present,
		MissingEntries: v.Missing, MissingBytes: v.MissingBytes, MissingFlushed: v.MissingFlushed,
		MissingMilliseconds: float64(v.MissingTime.Microseconds()) / 1000,
	}
	if err != nil {
		c.Error = err.Error()
	}
	return c
}

func (r demoResult) failure() error {
	var all []error
	for _, site := range []struct {
		name  string
		check demoCheck
	}{{"west", r.West}, {"east", r.East}} {
		if !site.check.OK {
			all = append(all, fmt.Errorf("%s: %s", site.name, site.check.Error))
		}
	}
	return errors.Join(all...)
}

func (r demoResult) table(t *table) {
	t.row("written to east:", fmt.Sprintf("%d writes, %s, in %.1fs (%s/s)", r.Writes, formatSize(uint64(r.Bytes)), r.Seconds, formatSize(uint64(float64(r.Bytes)/max(r.Seconds, 1e-3)))))
	t.row("west caught up:", fmt.Sprintf("%.2fs after the first writes", r.CatchUp))
	t.row("east killed, west promoted:", fmt.Sprintf("%.2fs until its images could be read, at position %s", r.Promoted, r.Position))
	t.row("west holds:", verdictOf(r.West, "a prefix of what was written, both images at one position"))
	t.row("west misses:", fmt.Sprintf("%d entries, %s, %.1fms of acknowledged writes", r.West.MissingEntries, formatSize(uint64(r.West.MissingBytes)), r.West.MissingMilliseconds))
	t.row("east started again:", fmt.Sprintf("%.2fs until its images could be read", r.Restart))
	t.row("east holds:", verdictOf(r.East, "everything that it had acknowledged"))
}

func verdictOf(c demoCheck, good string) string {
	if c.OK {
		return good
	}
	return "WRONG: " + c.Error
}
