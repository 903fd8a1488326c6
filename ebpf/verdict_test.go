package ebpf

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hotlap/ebpf/internal/need"
)

var update = flag.Bool("update", false, "record the situations of TestVerdicts anew in testdata (as root)")

// A recording is what Judge was given in a situation.
type recording struct {
	Delta  Sample
	Client ClientFigures
}

func (s *situation) file() string {
	return filepath.Join("testdata", strings.ReplaceAll(s.name, " ", "_")+".json")
}

// In each situation the verdict names what is wrong, and nothing else.
func TestVerdicts(t *testing.T) {
	need.Root(t)
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := s.play(t)
			for try := 1; try < maxTries && r.Delta.Lost[Retransmits] > 0; try++ {
				r = s.play(t)
			}
			if wrong := s.wrong(r); wrong != "" {
				t.Error(wrong)
			}
			if *update && !t.Failed() {
				text, err := json.MarshalIndent(r, "", "\t")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s.file(), append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// play plays the situation under an observer, until the verdict is what it should be
// or patience ends: softirqs may be working on the last packets yet.
func (s *situation) play(t *testing.T) recording {
	stage := newStage(t, s.remote)
	defer stage.close(t)
	o := observed(t, Options{Netns: stage.file})
	before := read(t, o)
	if err := s.provoke(stage); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(pollEvery) {
		r := recording{Sub(read(t, o), before), stage.ClientFigures}
		r.Client.Elapsed = r.Delta.Elapsed
		r.Delta.Examples = nil
		if s.wrong(r) == "" || time.Now().After(deadline) {
			return r
		}
	}
}

// wrong says what of the verdict is not as it should be.
func (s *situation) wrong(r recording) string {
	v := Judge(r.Delta, r.Client)
	var spoils, lists []string
	for _, f := range v.Findings {
		switch {
		case f.Spoils:
			spoils = append(spoils, f.Code)
		case f.Code == s.may:
		case f.Scope != ScopeHost && f.Code != "drops": // the kernel's reasons differ between versions
			lists = append(lists, f.Code)
		}
	}
	slices.Sort(lists)
	if v.Bound == s.bound && v.Valid == s.valid && slices.Equal(spoils, s.spoils) && slices.Equal(lists, s.lists) {
		return ""
	}
	return fmt.Sprintf("bound %s, valid %s (%s), spoiled by %v, listed %v; want %s, %s, %v, %v\n%+v", v.Bound, v.Valid, v.Why, spoils, lists, s.bound, s.valid, s.spoils, s.lists, v.Findings)
}

// recorded are the inputs of Judge in a situation, as they were when it was played.
func (s *situation) recorded(t *testing.T) (r recording) {
	t.Helper()
	text, err := os.ReadFile(s.file())
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Without the kernel: the same inputs give the same verdict; take the evidence
// away and the claim goes.
func TestRecordedVerdicts(t *testing.T) {
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			if wrong := s.wrong(s.recorded(t)); wrong != "" {
				t.Error(wrong)
			}
			if s.valid != ValidNo {
				return
			}
			r := s.recorded(t)
			for _, k := range s.take {
				r.Delta.each(func(c Counts, reasons Reasons) {
					if _, known := c[k]; known {
						c[k] = 0
					}
					delete(reasons, k)
				})
			}
			if s.takeTo != nil {
				s.takeTo(&r.Delta, &r.Client)
			}
			if v := Judge(r.Delta, r.Client); v.Valid != ValidYes {
				t.Errorf("without evidence it is still %s: %s\n%+v", v.Valid, v.Why, v.Findings)
			}
			if s.take == nil {
				return
			}
			r = s.recorded(t)
			for _, k := range s.take {
				r.Delta.each(func(c Counts, reasons Reasons) {
					delete(c, k)
					delete(reasons, k)
				})
			}
			if v := Judge(r.Delta, r.Client); v.Valid != ValidUnverified {
				t.Errorf("with its evidence unknown it is %s: %s\n%+v", v.Valid, v.Why, v.Findings)
			}
		})
	}
}

// Without an observer nothing but the client is ever blamed, and nothing is valid.
func TestRecordedVerdictsUnwatched(t *testing.T) {
	for _, s := range situations() {
		v := Judge(Sample{}, s.recorded(t).Client)
		want := ValidUnverified
		if slices.Equal(s.spoils, []string{"client_saturated"}) {
			want = ValidNo
		}
		if v.Valid != want {
			t.Errorf("%s: valid %s, want %s", s.name, v.Valid, want)
		}
	}
}

// each visits all counts of sockets.
func (s *Sample) each(visit func(Counts, Reasons)) {
	visit(s.Total, s.Reasons)
	for _, l := range slices.Concat(s.Listeners, s.Shared) {
		visit(l.Counts, l.Reasons)
	}
	for _, v := range s.Servers {
		visit(v.Counts, v.Reasons)
	}
	for _, d := range s.Destinations {
		visit(d.Counts, d.Reasons)
	}
}
