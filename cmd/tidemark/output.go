package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tidemark/internal/fault"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// show prints a result: as JSON, or as the table that fill writes.
func (c *cli) show(result any, fill func(t *table)) error {
	var text bytes.Buffer
	if c.output == outputJSON {
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
	} else {
		t := &table{tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)}
		fill(t)
		if err := t.w.Flush(); err != nil {
			return err
		}
	}
	if _, err := c.out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	return nil
}

// showRemoved prints that something is gone.
func (c *cli) showRemoved(name string) error { return c.showDone("removed", name) }

// showDone prints what was done to something, in one past participle in snake case.
func (c *cli) showDone(what, name string) error {
	return c.show(map[string]string{what: name}, func(t *table) { t.row(strings.ReplaceAll(what, "_", " ") + " " + name) })
}

// say prints a message for people; a program that reads JSON is not bothered with it.
// Several goroutines may say something.
func (c *cli) say(format string, args ...any) {
	if c.output != outputJSON {
		c.saying.Lock()
		defer c.saying.Unlock()
		_, _ = fmt.Fprintf(c.messages, format+"\n", args...) // messages are best effort
	}
}

// list makes an empty list print as [] instead of null.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// table writes aligned columns.
type table struct{ w *tabwriter.Writer }

// row writes one line. An empty cell shows as "-", so that columns stay countable.
func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = oneLine(fmt.Sprint(cell))
		if texts[i] == "" {
			texts[i] = "-"
		}
	}
	_, _ = io.WriteString(t.w, strings.Join(texts, "\t")+"\n") // into memory
}

// gap ends a block of aligned lines: the next one has columns of its own.
func (t *table) gap() {
	_ = t.w.Flush() // into memory
	_, _ = io.WriteString(t.w, "\n")
}

// report prints an error: one line, in JSON if that was asked for.
func (c *cli) report(err error, args []string) {
	message := oneLine(err.Error())
	if errors.Is(err, context.Canceled) {
		message = "interrupted"
	}
	if c.output == outputJSON || wantsJSON(args) {
		line, _ := json.Marshal(map[string]any{ // strings always encode
			"error": map[string]string{"code": string(fault.CodeOf(err)), "message": message},
		})
		_, _ = fmt.Fprintf(c.messages, "%s\n", line)
		return
	}
	_, _ = fmt.Fprintf(c.messages, "tidemark: %s\n", message)
}

// wantsJSON looks for -o json in a command line that may not have been parsed to its end.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == outputJSON {
				return true
			}
		}
	}
	return false
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
