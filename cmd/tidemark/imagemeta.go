package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tidemark/events"
	"tidemark/internal/api"
	"tidemark/internal/fault"
)

// metadata is one key of an image as it is shown.
type metadata struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func newImageMeta(c *cli) *cobra.Command {
	return group("meta", "Keys and values that are kept with an image",
		&cobra.Command{
			Use: "set POOL/DIR/IMAGE KEY VALUE", Short: "Give a key a value", Args: takes(3, 3),
			RunE: c.requestKey(func(ctx context.Context, s *client, name events.ImageName, args []string) error {
				if len(args[1]) > events.MetadataValueMax || !utf8.ValidString(args[1]) {
					return fault.New(fault.Usage, "value of %q: it has at most %d bytes of UTF-8", args[0], events.MetadataValueMax)
				}
				_, err := holder[api.Nothing](ctx, s, name.DirectoryName, api.MetadataSet, api.MetadataRequest{Image: name.Image, Key: args[0], Value: args[1]})
				if err != nil {
					return err
				}
				return c.showMetadata(args[0], args[1])
			}),
		},
		&cobra.Command{
			Use: "get POOL/DIR/IMAGE KEY", Short: "Print the value of a key", Args: takes(2, 2),
			RunE: c.requestKey(func(ctx context.Context, s *client, name events.ImageName, args []string) error {
				all, err := s.metadata(ctx, name)
				if err != nil {
					return err
				}
				value, ok := all[args[0]]
				if !ok {
					return fault.New(fault.NotFound, "image %s has no key %q", name, args[0])
				}
				if c.output == outputJSON {
					return c.showMetadata(args[0], value)
				}
				if _, err := fmt.Fprintln(c.out, value); err != nil { // as it is: no table may fold its blanks
					return fmt.Errorf("print the result: %w", err)
				}
				return nil
			}),
		},
		&cobra.Command{
			Use: "list POOL/DIR/IMAGE", Short: "List keys and values", Args: takes(1, 1),
			RunE: c.requestKey(func(ctx context.Context, s *client, name events.ImageName, _ []string) error {
				all, err := s.metadata(ctx, name)
				if err != nil {
					return err
				}
				pairs := []metadata{}
				for _, key := range slices.Sorted(maps.Keys(all)) {
					pairs = append(pairs, metadata{key, all[key]})
				}
				return c.show(pairs, func(t *table) { metadataRows(t, pairs...) })
			}),
		},
		&cobra.Command{
			Use: "remove POOL/DIR/IMAGE KEY", Short: "Remove a key", Args: takes(2, 2),
			RunE: c.requestKey(func(ctx context.Context, s *client, name events.ImageName, args []string) error {
				_, err := holder[api.Nothing](ctx, s, name.DirectoryName, api.MetadataUnset, api.MetadataRequest{Image: name.Image, Key: args[0]})
				if err != nil {
					return err
				}
				return c.showRemoved(args[0])
			}),
		},
	)
}

// requestKey makes a command's code out of a function that takes an image and, where more
// is given, a key and a value.
func (c *cli) requestKey(f func(context.Context, *client, events.ImageName, []string) error) func(*cobra.Command, []string) error {
	return c.request(func(ctx context.Context, s *client, args []string) error {
		name, err := parseImage(args[0])
		if err != nil {
			return err
		}
		if len(args) > 1 {
			if err := checkKey(args[1]); err != nil {
				return err
			}
		}
		return f(ctx, s, name, args[1:])
	})
}

func checkKey(key string) error {
	bad := key == "" || len(key) > events.MetadataKeyMax || !utf8.ValidString(key) || strings.ContainsFunc(key, unicode.IsControl)
	if bad {
		return fault.New(fault.Usage, "key %.300q: it has 1 to %d bytes of UTF-8 without control characters", key, events.MetadataKeyMax)
	}
	return nil
}

func (s *client) metadata(ctx context.Context, name events.ImageName) (map[string]string, error) {
	return holder[map[string]string](ctx, s, name.DirectoryName, api.MetadataList, api.ImageRequest{Image: name.Image})
}

func (c *cli) showMetadata(key, value string) error {
	one := metadata{key, value}
	return c.show(one, func(t *table) { metadataRows(t, one) })
}

func metadataRows(t *table, pairs ...metadata) {
	t.row("KEY", "VALUE")
	for _, p := range pairs {
		t.row(p.Key, p.Value)
	}
}
