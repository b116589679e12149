package policy

import (
	"cmp"
	"slices"
	"strings"

	"tidemark/events"
)

// Share is what a service of one node has of the directories.
type Share struct {
	Node        string
	Alive       bool
	Directories int
	Weight      uint64 // of its directories; their number if they are not weighed
}

// Spread is how the directories of one service lie over the nodes that live or have some,
// by the nodes' names. It follows from the mappings, the instances and the weights.
type Spread []Share

// changeShare changes what a node has; a node that is dead and has nothing is left out.
func (s *State) changeShare(k Key, change func(*Share)) {
	p := s.Spreads[k.Service]
	i, found := slices.BinarySearchFunc(p, k.Node, func(h Share, node string) int { return strings.Compare(h.Node, node) })
	if !found {
		p = slices.Insert(p, i, Share{Node: k.Node})
	}
	change(&p[i])
	if p[i] == (Share{Node: k.Node}) {
		p = slices.Delete(p, i, i+1)
	}
	if s.Spreads[k.Service] = p; len(p) == 0 {
		delete(s.Spreads, k.Service)
	}
}

func (p Spread) share(node string) Share {
	i, found := slices.BinarySearchFunc(p, node, func(h Share, node string) int { return strings.Compare(h.Node, node) })
	if !found {
		return Share{}
	}
	return p[i]
}

// least returns the live node with the least, "" if there is none; of equals the one with
// fewer directories, then the one with fewer of the same pool, then the first by name.
func (p Spread) least(except string, ofPool func(node string) int) Share {
	var best Share
	for _, h := range p {
		if !h.Alive || h.Node == except {
			continue
		}
		order := cmp.Or(cmp.Compare(h.Weight, best.Weight), cmp.Compare(h.Directories, best.Directories))
		if best.Node == "" || order < 0 || order == 0 && ofPool(h.Node) < ofPool(best.Node) {
			best = h
		}
	}
	return best
}

// poolShare names the directories of a pool that are mapped to a service of a node.
type poolShare struct {
	Key
	Pool string
}

// least returns the live node with the least for the directory, besides one.
func (v *view) least(service, except string) Share {
	return v.s.Spreads[service].least(except, func(node string) int {
		return v.s.Pooled[poolShare{Key{node, service}, v.d.Name.Pool}]
	})
}

// live returns how many nodes live, and what they have together.
func (p Spread) live() (nodes int, weight uint64) {
	for _, h := range p {
		if h.Alive {
			nodes++
			weight += h.Weight
		}
	}
	return nodes, weight
}

// uneven reports whether two live nodes have so different parts that a move could be due.
func (p Spread) uneven() bool {
	var least, most uint64
	nodes := 0
	for _, h := range p {
		if !h.Alive {
			continue
		}
		if nodes++; nodes == 1 {
			least, most = h.Weight, h.Weight
		}
		least, most = min(least, h.Weight), max(most, h.Weight)
	}
	return most > least+1
}

// better reports whether a directory of a weight is better off at the node that has the least
// than where it is. Where directories are only counted, that is a surplus. Where they are weighed, what the directory leaves must stay
// heavier than what it goes to, by more than the weights may waver without being told anew:
// each move lowers the sum of the squares of what the nodes have. So nothing bounces.
func (p Spread) better(from, to Share, weight uint64, by events.Balance) bool {
	if by == events.BalanceCount {
		return from.Directories >= to.Directories+2 && p.overfull(from.Directories)
	}
	nodes, total := p.live()
	return from.Weight*uint64(nodes) > total && from.Weight > to.Weight+2*weight+2*(total/uint64(nodes)/marginPart)
}

// overfull reports whether a node with so many directories has a surplus. With m of them over
// n nodes, m mod n nodes have one more than the others; those that have it already keep it.
func (p Spread) overfull(directories int) bool {
	nodes, total, full := 0, 0, 0
	for _, h := range p {
		if !h.Alive {
			continue
		}
		nodes++
		total += h.Directories
		if h.Directories >= directories {
			full++
		}
	}
	part := total / nodes
	return directories > part+1 || directories == part+1 && full > total%nodes
}

// marginPart is which part of a node's mean weight a move must win.
const marginPart = 10

// candidates returns the directories of the nodes that have more than their part.
func (s *State) candidates(p Spread) []*Directory {
	nodes, weight := p.live()
	var of []*Directory
	for _, h := range p {
		if !h.Alive || h.Weight*uint64(nodes) <= weight {
			continue
		}
		for id := range s.Mapped[Key{h.Node, events.ServiceReplayer}] {
			of = append(of, s.Directories[id])
		}
	}
	slices.SortFunc(of, func(a, b *Directory) int {
		return cmp.Or(cmp.Compare(a.Mapping.At, b.Mapping.At), strings.Compare(string(a.ID), string(b.ID)))
	})
	return of
}

// moveLoad carries what a directory weighs from its present mapping to the next.
func (s *State) moveLoad(d *Directory, next Mapping) {
	s.load(d, d.Mapping, -1)
	s.load(d, next, 1)
}

func (s *State) load(d *Directory, m Mapping, sign int) {
	if m.Epoch == 0 || m.Node == "" {
		return
	}
	pooled := poolShare{m.key(), d.Name.Pool}
	if s.Pooled[pooled] += sign; s.Pooled[pooled] == 0 {
		delete(s.Pooled, pooled)
	}
	weight := s.weight(d.ID)
	s.changeShare(m.key(), func(h *Share) {
		h.Directories += sign
		if sign < 0 {
			h.Weight -= weight
		} else {
			h.Weight += weight
		}
	})
}

// The weights of a directory of which nothing was measured, so that many new ones are not
// taken for nothing.
const (
	sizeBase = 64 << 20 // bytes
	rateBase = 64 << 10 // bytes per second
)

// weight is what a directory counts for.
func (s *State) weight(id events.DirectoryID) uint64 {
	m := s.Measures[id]
	switch s.Placement.By {
	case events.BalanceSize:
		return sizeBase + min(m.Bytes, weightMax)
	case events.BalanceWrites:
		return rateBase + min(m.Rate, weightMax)
	case events.BalanceCount:
	}
	return 1
}

// weightMax keeps sums of weights far below what a number holds.
const weightMax = 1 << 50

// weigh adds up anew what the nodes have, after what counts has changed.
func (s *State) weigh(change func()) {
	for _, d := range s.Directories {
		s.load(d, d.Mapping, -1)
	}
	change()
	for _, d := range s.Directories {
		s.load(d, d.Mapping, 1)
	}
}

// measured takes over what a directory measures.
func (s *State) measured(f *events.DirectoryMeasured) {
	d := s.Directories[f.Directory]
	if d != nil {
		s.load(d, d.Mapping, -1)
	}
	if s.Told[f.Directory] == nil {
		s.Told[f.Directory] = map[string]Measure{}
	}
	m := Measure{Node: f.Node, Bytes: f.Bytes, Rate: f.Rate, Complete: f.Complete}
	s.Told[f.Directory][f.Node], s.Measures[f.Directory] = m, m
	if d != nil {
		s.load(d, d.Mapping, 1)
	}
}
