// The page is complete without this. It replaces the parts that have changed by what the server
// has rendered anew, and says when it hears nothing.
"use strict";

const feed = document.getElementById("feed");
const feedText = document.getElementById("feed-text");
let heardAt = 0;

function clock(ms) { return new Date(ms).toISOString().slice(11, 19); }

function show(state, text) {
  if (feed.className !== "feed " + state) feed.className = "feed " + state;
  if (feedText.textContent !== text) feedText.textContent = text;
}

// busy reports whether a reader is in the middle of something in a part.
function busy(part) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function replace(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const shown = document.getElementById(part.id);
    if (!shown || shown.outerHTML === part.outerHTML || busy(shown)) continue;
    const focused = shown.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    shown.replaceWith(part);
    if (focused) for (const link of part.querySelectorAll("a")) if (link.getAttribute("href") === focused) link.focus();
  }
}

function listen() {
  const source = new EventSource(document.body.dataset.stream);
  source.addEventListener("page", (event) => {
    const page = JSON.parse(event.data);
    heardAt = Date.now();
    document.title = page.title;
    replace(page.html);
    show("live", "live");
  });
  source.addEventListener("alive", () => { heardAt = Date.now(); show("live", "live"); });
  source.onerror = () => {
    show("lost", heardAt ? "not connected: this is of " + clock(heardAt) + " UTC" : "not connected: this is as loaded");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}

listen();
