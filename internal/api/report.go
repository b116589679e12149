package api

import "tidemark/events"

// DirectorySummary asks policy for what is not where it should be. Nothing -> Summary
const DirectorySummary = "tidemark.api.directory.summary"

// Summary is the map without the directories that are where they should be.
type Summary struct {
	// Unusual are the directories that are not mapped, or whose last acquire or release
	// failed, by name.
	Unusual []Directory `json:"unusual"`
	// Held says how many of the others each holder has, by node and service.
	Held []Held `json:"held"`
}

// Held counts the directories that a service of a node holds.
type Held struct {
	Node        string `json:"node"`
	Service     string `json:"service"`
	Directories int    `json:"directories"`
}

// ReportSubjectsAll matches all reports.
const ReportSubjectsAll = reportPrefix + "*.*"

// ReportSubjects matches the reports of a service of any node.
func ReportSubjects(service string) string { return reportPrefix + "*." + events.Token(service) }

const reportPrefix = "tidemark.api.report."

// ReportSubject is where a service that holds directories reports on all of them.
// ReportRequest -> Report
func ReportSubject(node, service string) string {
	return reportPrefix + events.Token(node) + "." + events.Token(service)
}

// ReportRequest asks a holder for what it holds.
type ReportRequest struct {
	// Unusual leaves out what needs no attention.
	Unusual bool `json:"unusual"`
}

// Report is what a holder says of all that it holds.
type Report struct {
	Node        string     `json:"node"`
	Service     string     `json:"service"`
	Held        int        `json:"held"`        // those that are well included
	Directories []Standing `json:"directories"` // in no order
}

// Standing is a directory as its holder sees it, and how it is to follow. The journal's
// bytes in it are as last known, not asked for.
type Standing struct {
	Status
	Following
}
