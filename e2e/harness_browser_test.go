package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one page.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp keeps its browser in a context

	mu       sync.Mutex
	troubles []string // what its console said of errors
}

// startBrowser runs Chromium until the test ends; it skips the test where there is none, and
// fails it in CI.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	need(t, "chromium")
	path, err := toolPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience), chromedp.WindowSize(1280, 900))
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("run Chromium: %v", err)
	}
	command(b, log.Enable, cdp.Empty{})
	command(b, runtime.Enable, cdp.Empty{})
	return b
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.troubles = append(b.troubles, fmt.Sprint(e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "warning" {
			b.troubles = append(b.troubles, fmt.Sprint(e.Type))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == "error" {
			b.troubles = append(b.troubles, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// calm fails the test if the console has said anything of an error since the last call.
func (b *browser) calm(when string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.troubles) > 0 {
		b.t.Errorf("%s: the console says %q", when, b.troubles)
	}
	b.troubles = nil
}

// forgive forgets what the console has said.
func (b *browser) forgive() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = nil
}

// run runs an action in the page.
func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// command sends a command of the browser's protocol.
func command[P, R any](b *browser, c cdp.Command[P, R], params P) {
	b.t.Helper()
	run(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

// ask evaluates an expression in the page.
func ask[T any](b *browser, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression))
}

// text returns what is shown of an element; empty if it is not there.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return ask[string](b, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// awaitText waits until an element shows a text.
func (b *browser) awaitText(selector, part string) {
	b.t.Helper()
	await(b.t, patience, fmt.Sprintf("%s shows %q", selector, part), func() error {
		shown := b.text(selector)
		return unless(strings.Contains(shown, part), "it shows %q", shown)
	})
}

// look sets the window's size and the colours that its user prefers.
func (b *browser) look(width int64, scheme string) {
	b.t.Helper()
	run(b, chromedp.EmulateViewport(width, 900))
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// shoot keeps a picture of the whole page in the folder that TIDEMARK_SCREENSHOTS names.
func (b *browser) shoot(name string) {
	b.t.Helper()
	folder := os.Getenv("TIDEMARK_SCREENSHOTS")
	if folder == "" {
		return
	}
	picture := run(b, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600); err != nil {
		b.t.Error(err)
	}
}
