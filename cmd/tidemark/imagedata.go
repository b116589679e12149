package main

import (
	"context"
	"encoding/hex"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

func newImageFill(c *cli) *cobra.Command {
	var at offset
	var length size
	var pattern string
	cmd := &cobra.Command{
		Use: "fill POOL/DIR/IMAGE --offset N --length N --pattern HEX", Short: "Fill a range with copies of a pattern", Args: takes(1, 1),
		Long: `Fills a range of an image with copies of a pattern (SCSI WRITE SAME). The journal and
the replicas are given the pattern, not its copies.`,
	}
	cmd.RunE = c.request(func(ctx context.Context, s *client, args []string) error {
		name, err := parseImage(args[0])
		if err != nil {
			return err
		}
		if err := needs(cmd, "offset", "length", "pattern"); err != nil {
			return err
		}
		bytes, err := hex.DecodeString(pattern)
		switch {
		case err != nil || len(bytes) == 0 || len(bytes) > events.PayloadMax:
			return fault.New(fault.Usage, "pattern %.40q: it is 1 to %d bytes as pairs of hexadecimal digits", pattern, events.PayloadMax)
		case uint64(length)%uint64(len(bytes)) != 0:
			return fault.New(fault.Usage, "length %d is no multiple of the pattern's %d bytes", uint64(length), len(bytes))
		}
		_, err = holder[api.Nothing](ctx, s, name.DirectoryName, api.ImageFill,
			api.ImageFillRequest{Image: name.Image, Offset: uint64(at), Length: uint64(length), Pattern: bytes})
		if err != nil {
			return err
		}
		return c.showRange(name, uint64(at), uint64(length))
	})
	cmd.Flags().Var(&at, "offset", "where the range begins, in bytes")
	cmd.Flags().Var(&length, "length", "how long it is")
	cmd.Flags().StringVar(&pattern, "pattern", "", "the bytes to repeat, as hexadecimal `digits`")
	return cmd
}

func newImageCompareAndWrite(c *cli) *cobra.Command {
	var at offset
	var compare, data string
	cmd := &cobra.Command{
		Use: "compare-and-write POOL/DIR/IMAGE --offset N --compare FILE --data FILE", Short: "Write data where other data is found", Args: takes(1, 1),
		Long: `Writes the bytes of one file where the image holds those of another, as long as they
are, in one step (SCSI COMPARE AND WRITE). Where it holds others nothing is written, and
the exit code is 5. One of the files may be "-" for standard input.`,
	}
	cmd.RunE = c.request(func(ctx context.Context, s *client, args []string) error {
		name, err := parseImage(args[0])
		if err != nil {
			return err
		}
		if err := needs(cmd, "offset", "compare", "data"); err != nil {
			return err
		}
		request := api.ImageCompareRequest{Image: name.Image, Offset: uint64(at)}
		if request.Compare, err = fileOrStdin(c, compare, events.ComparedMax); err != nil {
			return err
		}
		if request.Data, err = fileOrStdin(c, data, events.ComparedMax); err != nil {
			return err
		}
		if len(request.Compare) != len(request.Data) || len(request.Data) == 0 {
			return fault.New(fault.Usage, "--compare has %d bytes and --data has %d: give as many of both, from 1 to %d",
				len(request.Compare), len(request.Data), events.ComparedMax)
		}
		if _, err = holder[api.Nothing](ctx, s, name.DirectoryName, api.ImageCompare, request); err != nil {
			return err
		}
		return c.showRange(name, uint64(at), uint64(len(request.Data)))
	})
	cmd.Flags().Var(&at, "offset", "where to look and to write, in bytes")
	cmd.Flags().StringVar(&compare, "compare", "", "`file` with what must be there")
	cmd.Flags().StringVar(&data, "data", "", "`file` with what is written then")
	return cmd
}

// needs demands that flags were given.
func needs(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if !cmd.Flags().Changed(name) {
			return fault.New(fault.Usage, "--%s is missing: %s", name, cmd.UseLine())
		}
	}
	return nil
}

// showRange prints what part of an image was written.
func (c *cli) showRange(name events.ImageName, at, length uint64) error {
	result := map[string]any{"image": name.String(), "offset": at, "length": length}
	return c.show(result, func(t *table) { t.row("IMAGE", "OFFSET", "WRITTEN"); t.row(name, at, formatSize(length)) })
}
