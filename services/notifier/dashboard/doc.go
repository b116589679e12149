// Package dashboard is the page that tells a person how the site is: is everything safe, what
// is not, since when, and what to do. It runs beside the notifier and only reads.
//
//	policy, holders ─► overview ─► Snapshot ─┐
//	LIFECYCLE ─────────────────────────────  ├─► State ─► Page ─► html/template ─► GET /
//	INSTANCES: who fell silent ──────────────┘     │                            └─► GET /dashboard/stream
//	                                               └ lags of the last minutes       (server-sent events)
//
// State is a fold and Page a function of it, a query and the time: neither reads a clock nor
// asks anybody. Whatever the page shows was rendered here; the script replaces parts of the
// page by newer ones, and without it the page is as complete as when it was loaded.
//
// # Bounds
//
//   - The site is asked every two seconds, and more rarely when that takes long: it costs at
//     most a twentieth of the time. A page is made of what was heard last, so it is answered at
//     once, and says how old that is.
//   - A page shows a bounded number of rows; the rest is behind a filter and pages. Of each
//     directory the lags of ten minutes are kept, 480 bytes.
//   - At most streamsMax browsers follow at a time; another one gets the page as it is.
//
// # When a step fails
//
//   - Policy, a holder or NATS does not answer: what was known stays, with its age and what is
//     wrong; the next answer replaces it.
//   - The notifier dies: browsers say since when they hear nothing, and come back by themselves.
//   - A name is hostile: it is text. html/template escapes it, and the page's policy runs no
//     script and loads nothing that is not of this server.
package dashboard
