// Command tidemark runs a Tidemark site and talks to it.
//
// Read in this order: main.go (a run of the command), root.go (what commands there
// are), serve.go (one process of a site, from its flags to its parts), then any file
// named after a noun (pool.go, image.go, mirror.go): each holds that noun's commands.
// client.go is how they reach a site, output.go how they print.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"tidemark/internal/fault"
)

func main() {
	ctx, stop := untilSignal(context.Background())
	code := runCommand(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// runCommand carries out one command line and returns its exit code.
func runCommand(ctx context.Context, args []string, in io.Reader, out, messages io.Writer) int {
	c := &cli{in: in, out: out, messages: messages}
	root := newRoot(c)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !c.acting { // cobra did not get as far as the command itself
		err = fault.New(fault.Usage, "%w; see `tidemark help`", err)
	}
	c.report(err, args)
	return fault.ExitCode(err)
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The second one
// ends the process: whoever sends it does not want to wait.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		<-signals
		os.Exit(1)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}
