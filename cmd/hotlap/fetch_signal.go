package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// interruptGrace is how long what is in flight has at the first signal.
const interruptGrace = 2 * time.Second

// handleSignals makes the first SIGINT or SIGTERM end the run in good order:
// no more input, what is in flight has a while to finish, the rest is
// canceled. The second one ends the process.
//
// A closed pipe and a file over its limit are errors of a write then, not the
// end of the process.
func (f *fetching) handleSignals() (stop func()) {
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ)
	signals, ended := make(chan os.Signal, 2), make(chan struct{})
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if !signal.Ignored(s) { // by nohup, or by a shell for what runs in the background
			signal.Notify(signals, s)
		}
	}
	go f.awaitSignals(signals, ended)
	return func() {
		signal.Stop(signals)
		close(ended)
	}
}

func (f *fetching) awaitSignals(signals <-chan os.Signal, ended <-chan struct{}) {
	select {
	case s := <-signals:
		f.signal.Store(int32(s.(syscall.Signal)))
	case <-ended:
		return
	}
	f.source.Stop()
	grace := time.AfterFunc(interruptGrace, f.cancel)
	defer grace.Stop()
	select {
	case <-signals:
		os.Exit(128 + int(f.signal.Load()))
	case <-ended:
	}
}
