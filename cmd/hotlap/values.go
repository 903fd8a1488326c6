package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hotlap/engine"
	"hotlap/httpcodec"
)

// units are what may follow a number. Longer ones come first.
var units = []struct {
	name   string
	factor float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"k", 1e3}, {"K", 1e3}, {"m", 1e6}, {"M", 1e6}, {"g", 1e9}, {"G", 1e9}, {"B", 1},
}

// parseNumber reads a number with an optional unit: 20k, 1.5m, 16MiB.
func parseNumber(s string) (float64, error) {
	factor, digits := 1.0, s
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			factor, digits = u.factor, rest
			break
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) || strings.ContainsAny(digits, "xXpP_") {
		return 0, fmt.Errorf("%q is not a number such as 500, 20k or 16MiB", s)
	}
	return n * factor, nil
}

// A number is a flag of whole numbers, with units.
type number[T int | int64] struct {
	to          *T
	least, most T
}

func (v number[T]) String() string { return "" }
func (v number[T]) Type() string   { return "N" }

func (v number[T]) Set(s string) error {
	n, err := parseNumber(s)
	switch {
	case err != nil:
		return err
	case n != math.Trunc(n):
		return fmt.Errorf("%q is not a whole number", s)
	case n < float64(v.least) || n > float64(v.most):
		return fmt.Errorf("%s is not in %d to %d", s, v.least, v.most)
	}
	*v.to = T(n)
	return nil
}

// A rate is a flag in requests per second.
type rate struct{ to *float64 }

func (v rate) String() string { return "" }
func (v rate) Type() string   { return "RATE" }

func (v rate) Set(s string) error {
	n, err := parseNumber(s)
	if err == nil && !(n > 0) {
		err = fmt.Errorf("%s is not above 0", s)
	}
	if err == nil && n > mostRate {
		err = fmt.Errorf("%s is above %d per second, which no machine sends", s, int(mostRate))
	}
	if err == nil {
		*v.to = n
	}
	return err
}

// orNone is a flag that 0 turns off, which is its default.
type orNone[T float64 | time.Duration] struct {
	pflag.Value
	to *T
}

func (v orNone[T]) Set(s string) error {
	if s == "0" || s == "0s" {
		*v.to = 0
		return nil
	}
	return v.Value.Set(s)
}

// mostRate keeps the accounts of what was due and could not be sent short.
const mostRate = 10_000_000

// A limit is a flag of a time that must pass.
type limit struct{ to *time.Duration }

func (v limit) String() string { return "" }
func (v limit) Type() string   { return "TIME" }

func (v limit) Set(s string) error {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a time such as 500ms, 30s or 2m", s)
	case d <= 0:
		return fmt.Errorf("%s is not above 0", s)
	}
	*v.to = d
	return nil
}

// A depth is -p: a number, or auto.
type depth struct{ to *int }

func (v depth) String() string { return "" }
func (v depth) Type() string   { return "N|auto" }

func (v depth) Set(s string) error {
	if s == "auto" {
		*v.to = engine.PipelineAuto
		return nil
	}
	return number[int]{v.to, 1, engine.PipelineMax}.Set(s)
}

// A choice is a flag with a few values.
type choice struct {
	to   *string
	from []string
}

func (v choice) String() string { return "" }
func (v choice) Type() string   { return strings.Join(v.from, "|") }

func (v choice) Set(s string) error {
	for _, c := range v.from {
		if s == c {
			*v.to = s
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", s, strings.Join(v.from, ", "))
}

// parseHeader reads -H: "Name: value", "Name:" to leave a default out, "Name;"
// for an empty value. What is wrong is said without the value, which may be a
// secret.
func parseHeader(s string, fields *[]engine.Field, omit *[]string) error {
	name, value, ok := strings.Cut(s, ":")
	empty := false
	if !ok {
		if name, empty = strings.CutSuffix(s, ";"); !empty {
			return errors.New("it has no colon: write 'Name: value'")
		}
	}
	value = strings.Trim(value, " \t")
	switch {
	case !httpcodec.ValidToken(name):
		return errors.New("what is before the colon is no header name")
	case !httpcodec.ValidFieldValue(value):
		return fmt.Errorf("the value of %s has a control character", name)
	case strings.EqualFold(name, "Host") && value == "":
		return errors.New("a request cannot go without Host")
	case value != "" || empty:
		*fields = append(*fields, engine.Field{Name: name, Value: value})
	default:
		*omit = append(*omit, name)
	}
	return nil
}

// bodyFlag is -b: the body itself, or @FILE.
type bodyFlag struct {
	stdin     io.Reader
	to        *[]byte
	fromStdin *bool
}

func (v bodyFlag) String() string { return "" }
func (v bodyFlag) Type() string   { return "DATA|@FILE" }

func (v bodyFlag) Set(s string) (err error) {
	name, isFile := strings.CutPrefix(s, "@")
	switch {
	case !isFile:
		*v.to = []byte(s)
	case name == "-":
		*v.fromStdin = true
		*v.to, err = io.ReadAll(v.stdin)
	default:
		*v.to, err = os.ReadFile(name)
	}
	if err == nil && *v.to == nil {
		*v.to = []byte{} // an empty body is one
	}
	return err
}
