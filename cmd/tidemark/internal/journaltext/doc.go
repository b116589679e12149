// Package journaltext is how the entries of a journal look as text: what `decode` and
// `events` show, and what `journal export` writes and `journal import` reads.
//
// An event is a JSON object: its kind, and its fields under the names that they have in
// package events, in snake case. One table (kinds.go) serves for both directions.
//
// An export is a file of lines. Those that begin with '#', and empty ones, are comments.
// Every other one is an entry: its length in decimal digits, a space, one JSON document
// of so many bytes, a newline (line.go). Beside the numbers of images and snapshots it
// gives the names that they had then (names.go): in another directory the numbers differ.
package journaltext
