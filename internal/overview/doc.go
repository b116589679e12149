// Package overview puts together what the services of a site say of it, and says what of
// that is unusual: the one judgement that the command line, the dashboard and the holders of
// directories share.
//
//	policy     api.SiteInfo, PoolList, PeerList ──────────────┐
//	           api.DirectorySummary: what is not where it     ├──► Brief ──► Worries
//	           should be, and how many each holder has        │
//	holders    api.Report: how many they have, and which of   │
//	           them are unusual ──────────────────────────────┘
//
// A brief answer costs what is unusual, not what there is: a holder judges its own
// directories with [Line.Worries] and leaves out those that are well. The whole site is one
// list of the map and one report of each holder, in parts; no directory is asked for alone.
//
// Everything but the asking is a function of its arguments.
package overview
