package main

import (
	"errors"

	"tidemark/internal/fault"
	"tidemark/internal/overview"
)

// errHang is why nothing is known of the directories of a node that hangs.
var errHang = errors.New("the node that holds it does not answer")

// worries lists what needs attention: parted histories and errors, then what is not
// followed or held, then what is on its way, then lag and full journals.
// found is what is known of the site besides.
func (a siteStatus) worries(found []overview.Worry) []overview.Attention {
	if len(a.Nodes) == 0 {
		found = append(found, overview.Worry{Rank: overview.Grave, Attention: overview.Attention{
			What: "site", Message: "no node is alive: does the notifier service run?", Do: "start a node: tidemark serve",
		}})
	}
	if a.FromLog {
		found = append(found, overview.Worry{Rank: overview.Grave, Attention: overview.Attention{
			What: "policy", Message: "nobody answers: this is what the log says, and nothing can be changed", Do: "start the policy service of a node",
		}})
	}
	for _, d := range a.Directories {
		found = append(found, d.Worries()...)
	}
	overview.SortWorries(found)
	worries := make([]overview.Attention, 0, len(found))
	for _, f := range found {
		worries = append(worries, f.Attention)
	}
	return worries
}

// verdict is what `status --check` ends with: nil when nothing needs attention.
func (a siteStatus) verdict() error {
	switch n := len(a.Attention); n {
	case 0:
		return nil
	case 1:
		return fault.New(fault.NotReady, "%s: %s", a.Attention[0].What, a.Attention[0].Message)
	default:
		return fault.New(fault.NotReady, "%d things need attention, first %s: %s", n, a.Attention[0].What, a.Attention[0].Message)
	}
}
