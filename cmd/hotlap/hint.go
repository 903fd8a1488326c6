package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// parseFlags parses a command line. Of a flag that is unknown it says which may
// have been meant.
func parseFlags(f *pflag.FlagSet, args []string) error {
	err := f.Parse(args)
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	name := unknown.GetSpecifiedName()
	if group := unknown.GetSpecifiedShortnames(); len(group) > 1 {
		name = group // -rate, with one dash
	}
	short := map[string]string{}
	f.VisitAll(func(flag *pflag.Flag) {
		if short[flag.Name] = ""; flag.Shorthand != "" {
			short[flag.Name] = " (-" + flag.Shorthand + ")"
		}
	})
	var meant []string
	for _, near := range nearest(name, short) {
		meant = append(meant, "--"+near+short[near])
	}
	if meant == nil {
		return err
	}
	return fmt.Errorf("%w: did you mean %s?", err, strings.Join(meant, " or "))
}

// nearest are the names that somebody may have meant: that are the beginning of
// what was written, or it of them, or else that differ by the fewest letters, and
// by a third of them at most.
func nearest[V any](written string, names map[string]V) (near []string) {
	if len(written) < 2 || len(written) > 64 {
		return nil
	}
	least := (len(written) + 2) / 3
	for name := range names {
		d := distance(written, name)
		if strings.HasPrefix(name, written) || strings.HasPrefix(written, name) {
			d = 0
		}
		if d < least {
			least, near = d, nil
		}
		if d == least {
			near = append(near, name)
		}
	}
	slices.Sort(near)
	return near
}

// distance is how many letters have to be put in, left out, changed, or exchanged
// with the next one, to make b of a.
func distance(a, b string) int {
	var before []int // the row before last
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
