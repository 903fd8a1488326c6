package main

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// interruptGrace is how long what is in flight has at the first signal.
const interruptGrace = 2 * time.Second

// An interruption makes the first SIGINT or SIGTERM end a run in good order: no
// more requests, what is in flight has a while to finish, the rest is canceled.
// The second one ends the process.
//
// A closed pipe and a file over its limit are errors of a write then, not the
// end of the process.
type interruption struct {
	stop, cancel func()
	by           atomic.Int32 // the signal that ended the run; 0 is none
	signals      chan os.Signal
	ended        chan struct{}
}

// awaitInterruption begins to listen for signals.
func awaitInterruption(stop, cancel func()) *interruption {
	i := &interruption{stop: stop, cancel: cancel, signals: make(chan os.Signal, 2), ended: make(chan struct{})}
	signal.Ignore(syscall.SIGPIPE, syscall.SIGXFSZ)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		if !signal.Ignored(s) { // by nohup, or by a shell for what runs in the background
			signal.Notify(i.signals, s)
		}
	}
	go i.await()
	return i
}

// end stops listening.
func (i *interruption) end() {
	signal.Stop(i.signals)
	close(i.ended)
}

// code is the exit code; 0 if there was no signal.
func (i *interruption) code() int {
	if s := i.by.Load(); s != 0 {
		return 128 + int(s)
	}
	return 0
}

func (i *interruption) await() {
	select {
	case s := <-i.signals:
		i.by.Store(int32(s.(syscall.Signal)))
	case <-i.ended:
		return
	}
	i.stop()
	grace := time.AfterFunc(interruptGrace, i.cancel)
	defer grace.Stop()
	select {
	case <-i.signals:
		os.Exit(i.code())
	case <-i.ended:
	}
}
