package main

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/pflag"

	"tidemark/services/journal"
)

// journalFlags are the flags of serve about how journals are kept.
type journalFlags struct {
	settings            journal.Settings
	flushBytes, payload size
	checkpointBytes     size
	lagBytes            lagBytes
	lagAge              lagAge
}

func (j *journalFlags) register(f *pflag.FlagSet) {
	j.settings = journal.DefaultSettings()
	j.flushBytes, j.payload = size(j.settings.FlushBytes), size(j.settings.PayloadBytes)
	f.Var(&j.flushBytes, "journal-flush-bytes", "a journal's message is closed when it is as large, up to 512KiB")
	f.IntVar(&j.settings.FlushEntries, "journal-flush-entries", j.settings.FlushEntries, "a message that is held back is sent with so many entries; 0: no such bound")
	f.DurationVar(&j.settings.FlushAge, "journal-flush-age", j.settings.FlushAge, "how long a message is held back for more entries; 0: not at all")
	f.BoolVar(&j.settings.WritethroughUntilFlush, "journal-writethrough-until-flush", j.settings.WritethroughUntilFlush,
		"hold nothing back before a client has flushed for the first time")
	f.IntVar(&j.settings.MaxInFlight, "journal-max-in-flight", j.settings.MaxInFlight, "messages of a journal under way at a time: 1")
	f.Var(&j.payload, "journal-max-payload", "most data in one entry, from 512 to 256KiB; a longer write becomes several")
	j.checkpointBytes = size(j.settings.CheckpointBytes)
	f.DurationVar(&j.settings.CheckpointAge, "journal-checkpoint-age", j.settings.CheckpointAge, "how long what is applied to the images may stay without a checkpoint")
	f.Var(&j.checkpointBytes, "journal-checkpoint-bytes", "how much of the journal may: a restart replays it")
	f.Var(&j.lagBytes, "journal-lag-bytes", "a replica further behind is disconnected; or never (default: three quarters of the journal's bound)")
	f.Var(&j.lagAge, "journal-lag-age", "a replica that commits nothing for so long is disconnected; or never (default: 168h)")
}

// check takes the values of the flags over into the settings.
func (j *journalFlags) check() error {
	j.settings.FlushBytes = int(min(j.flushBytes, math.MaxInt32))
	j.settings.PayloadBytes = int(min(j.payload, math.MaxInt32))
	j.settings.CheckpointBytes = uint64(j.checkpointBytes)
	return j.settings.Check()
}

func (j *journalFlags) lag() journal.LagLimits {
	return journal.LagLimits{Bytes: int64(j.lagBytes), Age: time.Duration(j.lagAge)}
}

const never = "never"

// lagBytes is a flag: a size, or never, which is negative. Zero is the default.
type lagBytes int64

// Set implements pflag.Value.
func (l *lagBytes) Set(text string) error {
	if text == never {
		*l = -1
		return nil
	}
	v, err := parseSize(text)
	if err == nil {
		*l = lagBytes(v)
	}
	return err
}

// String implements pflag.Value.
func (l *lagBytes) String() string {
	switch {
	case *l < 0:
		return never
	case *l == 0:
		return ""
	}
	return formatSize(uint64(*l))
}

// Type implements pflag.Value.
func (l *lagBytes) Type() string { return "size" }

// lagAge is a flag: a duration, or never, which is negative. Zero is the default.
type lagAge time.Duration

// Set implements pflag.Value.
func (l *lagAge) Set(text string) error {
	if text == never {
		*l = -1
		return nil
	}
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 {
		return fmt.Errorf("duration %q: write it like 90m or 48h, or never", text)
	}
	*l = lagAge(v)
	return nil
}

// String implements pflag.Value.
func (l *lagAge) String() string {
	switch {
	case *l < 0:
		return never
	case *l == 0:
		return ""
	}
	return time.Duration(*l).String()
}

// Type implements pflag.Value.
func (l *lagAge) Type() string { return "duration" }
