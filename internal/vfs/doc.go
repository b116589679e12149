// Package vfs is the seam between the store and the disk: [FS] is what the store asks
// of a filesystem, [OS] answers it, [NewFaulty] fails on demand, and [NewCrash] knows
// what a power cut would leave.
//
// Names are paths of the operating system: a metadata store that insists on a real
// file (bbolt) opens the same names beside the seam.
package vfs
