// Package sample is what one measured run of one client says: the JSON that
// the programs of bench/floor and enginebench print, and what the harness adds.
package sample

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Sample is one run of one client.
type Sample struct {
	Client      string  `json:"client"`
	Connections int     `json:"connections"`
	Depth       int     `json:"depth"`
	Requests    int64   `json:"requests"` // answered
	Errors      int64   `json:"errors"`
	Seconds     float64 `json:"seconds"`
	UserSeconds float64 `json:"user_seconds"`
	SysSeconds  float64 `json:"sys_seconds"`
	// Latency percentiles, where the client takes them.
	P50us float64 `json:"p50_us,omitempty"`
	P99us float64 `json:"p99_us,omitempty"`
	MaxUs float64 `json:"max_us,omitempty"`
	// Percentiles of how late a paced client was.
	LagP50us float64 `json:"lag_p50_us,omitempty"`
	LagP99us float64 `json:"lag_p99_us,omitempty"`

	// What the harness saw.
	PeakBytes     int64   `json:"peak_bytes,omitempty"` // of the client's memory
	Due           float64 `json:"-"`                    // requests that were to be sent; 0 in a closed loop
	Served        int64   `json:"-"`                    // requests that reached the server
	ServerSeconds float64 `json:"-"`                    // CPU time of the server

	// Of a run that was observed, in its measured part.
	LoadSeconds     float64 `json:"-"` // CPU time of the client, with its observer
	ObserverSeconds float64 `json:"-"` // of the observer's thread
	BPFRuns         int64   `json:"-"` // of its BPF programs, on all CPUs; 0: not measured
	BPFSeconds      float64 `json:"-"` // in them
}

// CPUus is the CPU time of the client per request, in microseconds. The server
// counts the requests if it can: clients may leave out a warm-up.
func (s *Sample) CPUus() float64 {
	return (s.UserSeconds + s.SysSeconds) / float64(max(s.Served, s.Requests)) * 1e6
}

// ServerCPUus is the CPU time of the server per request, in microseconds.
func (s *Sample) ServerCPUus() float64 {
	return s.ServerSeconds / float64(max(s.Served, s.Requests)) * 1e6
}

// Achieved is the answered requests over those that were due; 0 in a closed
// loop.
func (s *Sample) Achieved() float64 {
	if s.Due == 0 {
		return 0
	}
	return float64(s.Requests) / s.Due
}

// Added is what the observer cost: the share of the CPU time of client and server
// that its thread and its BPF programs took. 0 where that was not measured.
func (s *Sample) Added() float64 {
	if s.BPFRuns == 0 {
		return 0
	}
	return (s.BPFSeconds + s.ObserverSeconds) / (s.LoadSeconds + s.ServerSeconds)
}

// PeakMB is the most memory that the client held, in megabytes.
func (s *Sample) PeakMB() float64 { return float64(s.PeakBytes) / 1e6 }

// Rate is requests per second.
func (s *Sample) Rate() float64 { return float64(s.Requests) / s.Seconds }

// Check refuses a sample that measured something else than a clean run.
func (s *Sample) Check() error {
	switch {
	case s.Errors != 0:
		return fmt.Errorf("%s: %d of its requests failed", s.Client, s.Errors)
	case s.Requests <= 0 || s.Seconds <= 0:
		return fmt.Errorf("%s: no request was answered", s.Client)
	}
	return nil
}

// CPU is the CPU time this process has used so far.
func CPU() (user, sys time.Duration, err error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano()), nil
}
