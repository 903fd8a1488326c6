package main

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"rate", "rate", 0}, {"", "rate", 4}, {"rate", "", 4},
		{"rat", "rate", 1}, {"rrate", "rate", 1}, {"late", "rate", 1}, {"raet", "rate", 1}, {"arte", "rate", 1},
		{"conections", "connections", 1}, {"conectoins", "connections", 2}, {"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearestFlags(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"--conections", "unknown flag: --conections: did you mean --connections (-c)?"},
		{"--conections=5", "unknown flag: --conections: did you mean --connections (-c)?"},
		{"--raet", "unknown flag: --raet: did you mean --rate (-R)?"},
		{"--reques", "unknown flag: --reques: did you mean --requests (-n)?"},
		{"--tls", "unknown flag: --tls: did you mean --tls-max or --tls-min?"},
		{"--warm-up", "unknown flag: --warm-up: did you mean --warmup?"},
		{"--no-keep-alive", "unknown flag: --no-keep-alive: did you mean --no-keepalive?"},
		{"--asert", "unknown flag: --asert: did you mean --assert?"},
		{"-rate", "unknown shorthand flag: 'r' in -rate: did you mean --rate (-R)?"},
		{"--no-such-flag", "unknown flag: --no-such-flag"},
		{"-t", "unknown shorthand flag: 't' in -t"},
		{"--x", "unknown flag: --x"},
		{"--" + strings.Repeat("rate", 1000), "unknown flag: --" + strings.Repeat("rate", 1000)},
	} {
		err := parseFlags(benchFlags(new(stdio), new(benchOptions)), []string{c.arg})
		if err == nil || err.Error() != c.want {
			t.Errorf("%.40s: %v, want %s", c.arg, err, c.want)
		}
	}
}
