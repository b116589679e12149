package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// hostile is the name of a directory that would be a script, if it were taken for HTML.
const hostile = `vms/<img src=x onerror=document.title='owned' "'&lt;`

// wideParts lists what is wider than the window.
const wideParts = `(() => {
	const wide = [];
	for (const e of document.body.querySelectorAll("*")) {
		const box = e.getBoundingClientRect();
		if (box.width > 1 && box.right > innerWidth + 1) wide.push(e.tagName + "." + e.className.toString() + " to " + box.right);
	}
	if (document.documentElement.scrollWidth > innerWidth) wide.push("the page: " + document.documentElement.scrollWidth);
	return wide.slice(0, 5);
})()`

// faint lists texts whose contrast with what is behind them is below WCAG's AA.
const faint = `(() => {
	const parse = (c) => { const p = c.match(/[\d.]+/g).map(Number); return p.length < 4 ? [...p, 1] : p; };
	const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
		return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
	const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255]; };
	const found = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let seen = 0;
	while (walker.nextNode()) {
		const node = walker.currentNode, e = node.parentElement;
		if (!node.data.trim() || e.closest("svg,meter,.hidden,.skip,option") || !e.checkVisibility()) continue;
		seen++;
		const style = getComputedStyle(e), [a, b] = [light(parse(style.color)), light(behind(e))];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) found.push(node.data.trim().slice(0, 30) + " " + ratio.toFixed(2));
	}
	if (seen < 20) found.push("only " + seen + " texts were looked at");
	return found.slice(0, 5);
})()`

// unnamed lists what a reader who does not see the page would not be told.
const unnamed = `(() => {
	const found = [];
	const one = (selector) => { const n = document.querySelectorAll(selector).length; if (n !== 1) found.push(n + " of " + selector); };
	one("html[lang]"); one("main"); one("h1"); one("body > header"); one("body > footer");
	for (const e of document.querySelectorAll("input,select")) if (!e.labels.length || !e.labels[0].textContent.trim()) found.push("no label: " + e.name);
	for (const e of document.querySelectorAll("body svg")) if (e.getAttribute("aria-hidden") !== "true" && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label"))) found.push("a picture without words");
	for (const e of document.querySelectorAll("th")) if (!e.scope) found.push("a heading of nothing: " + e.textContent);
	for (const e of document.querySelectorAll("a")) if (!e.textContent.trim()) found.push("an empty link");
	for (const e of document.querySelectorAll("section")) if (!e.hasAttribute("aria-label") && !document.getElementById(e.getAttribute("aria-labelledby"))) found.push("a section without a name");
	for (const e of document.querySelectorAll(".state")) if (!e.innerText.trim() || !e.querySelector("use")) found.push("a state by colour alone");
	const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
	if (new Set(ids).size !== ids.length) found.push("an id twice");
	return found;
})()`

// check fails the test if the page is hard to read in light, dark, or on a phone, and keeps
// pictures of it.
func (b *browser) check(when string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 800, 360} {
			b.look(width, scheme)
			where := fmt.Sprintf("%s, %s, %d wide", when, scheme, width)
			if wide := ask[[]string](b, wideParts); len(wide) > 0 {
				b.t.Errorf("%s: it does not fit: %q", where, wide)
			}
			if texts := ask[[]string](b, faint); len(texts) > 0 {
				b.t.Errorf("%s: hard to read: %q", where, texts)
			}
			b.shoot(fmt.Sprintf("%s-%s-%d", when, scheme, width))
		}
	}
	if parts := ask[[]string](b, unnamed); len(parts) > 0 {
		b.t.Errorf("%s: %q", when, parts)
	}
	b.look(1280, "light")
}

// TestDashboard looks at the page of a site in a browser, while its directories are written,
// promoted, cut off, and while the site itself goes and comes back.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b := startBrowser(t)
	east, west := pair(t)
	for _, dir := range []string{"vms/prod/db", "vms/prod/mail"} {
		east.createImage(dir+"/disk", "16MiB")
		west.must("mirror", "add", dir)
		awaitLevel(t, east, west, dir)
	}
	west.must("dir", "create", hostile)

	run(b, chromedp.Navigate("http://"+west.http+"/"))
	b.awaitText("#feed", "live")
	b.awaitText(".title", "Everything is safe")
	b.awaitText("#rows", hostile)
	b.check("well")
	if title, images := ask[string](b, "document.title"), ask[int](b, "document.images.length"); strings.Contains(title, "owned") || images != 0 {
		t.Errorf("a name was taken for HTML: title %q, %d images", title, images)
	}
	ask[bool](b, "window.loadedOnce = true")

	l := newLoad(t, 16<<20, "vms/prod/db/disk")
	w := l.start(east)
	w.awaitWrites(200)
	w.end()
	awaitLevel(t, east, west, "vms/prod/db")
	b.awaitText("#facts", "Backlog")
	west.must("mirror", "promote", "--force", "vms/prod/mail")
	await(t, patience, "the promoted directory is shown as primary", func() error {
		row := ask[string](b, `[...document.querySelectorAll("#rows tr")].find((r) => r.innerText.includes("prod/mail"))?.innerText ?? ""`)
		return unless(strings.Contains(row, "primary"), "its row is %q", row)
	})
	b.awaitText("#turns", "promoted")
	b.awaitText(".title", "attention") // both sites are primary of it
	b.awaitText("#verdict", "split_brain")
	b.check("split")
	b.calm("while the site was there")
	if !ask[bool](b, "window.loadedOnce === true") {
		t.Error("the page was loaded again, not updated")
	}

	east.terminate()
	b.awaitText("#verdict", "connect to NATS")
	b.awaitText("#verdict", "lagging")
	b.check("cut")
	b.calm("after east was stopped")
	west.terminate()
	b.awaitText("#feed", "not connected")
	if shown := b.text("#rows"); !strings.Contains(shown, "vms/prod/db") {
		t.Errorf("what was known is not shown any more: %q", shown)
	}
	west.start()
	b.awaitText("#feed", "live")
	b.awaitText("#verdict", "connect to NATS")
	b.forgive()
	if !ask[bool](b, "window.loadedOnce === true") {
		t.Error("the page did not come back by itself")
	}

	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	run(b, chromedp.Navigate("http://"+west.http+"/?q=prod"))
	command(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})
	if shown := b.text("#rows"); !strings.Contains(shown, "vms/prod/db") || strings.Contains(shown, "onerror") {
		t.Errorf("without a script, a search for prod shows %q", shown)
	}
	b.calm("without a script")
}
