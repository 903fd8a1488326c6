package tune

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hotlap/ebpf/internal/lab"
)

// warmWindow is the congestion window before the pause, in segments: more than
// twice the one that a connection begins with.
const warmWindow = 40

// bulk is how many bytes are sent at a time.
const bulk = 256 << 10

// windowAfterIdle: a connection that has earned a window, a pause, and one more
// segment.
func windowAfterIdle(control string) *Experiment {
	return &Experiment{
		Knob: "net.ipv4.tcp_slow_start_after_idle", Case: "under " + control, Pair: true,
		Load: fmt.Sprintf("a connection with a congestion window of %d segments or more that pauses for 6 retransmission timeouts and then sends %d KiB", warmWindow, bulk>>10),
		Metrics: []Metric{
			{Name: "window kept", Unit: "%", Kind: Benefit, More: true, Least: 30},
			{Name: "window before", Kind: Shown, Least: 1},
			{Name: "window after", Kind: Shown, Least: 1},
			{Name: "segments sent again", Kind: Harm, Least: 20}, // after the pause
		},
		values: turn("1", "0"),
		load:   func(t *track) (Figures, error) { return t.windowAfterIdle(control) },
	}
}

func (t *track) windowAfterIdle(control string) (Figures, error) {
	if err := t.available(control); err != nil {
		return nil, err
	}
	l, err := t.listen(16)
	if err != nil {
		return nil, err
	}
	client, server, ok, err := t.connect(l)
	if err != nil || !ok {
		return nil, fmt.Errorf("one connection: made %v, %w", ok, err)
	}
	t.keep(server)
	t.keep(client)
	if err := client.NoDelay(); err != nil {
		return nil, err
	}
	if err := client.Congestion(control); err != nil {
		return nil, err
	}
	before, err := t.warm(client, server)
	if err != nil {
		return nil, err
	}
	if err := t.pause(6 * time.Duration(before.Rto) * time.Microsecond); err != nil {
		return nil, err
	}
	// The window is looked at again when something is to be sent.
	if _, err := client.Write([]byte{0}); err != nil {
		return nil, err
	}
	after, err := client.Info()
	if err != nil {
		return nil, err
	}
	end, err := t.sendBulk(client, server, bulk+1)
	if err != nil {
		return nil, err
	}
	return Figures{
		"window before":       float64(before.Snd_cwnd),
		"window after":        float64(after.Snd_cwnd),
		"window kept":         100 * float64(after.Snd_cwnd) / float64(before.Snd_cwnd),
		"segments sent again": float64(end.Total_retrans - before.Total_retrans),
	}, nil
}

// available says whether the kernel has a congestion control.
func (t *track) available(control string) error {
	var has string
	err := t.client.Do(func() (err error) {
		has, err = Read("net.ipv4.tcp_available_congestion_control")
		return err
	})
	if err == nil && !strings.Contains(" "+has+" ", " "+control+" ") {
		err = fmt.Errorf("%w: its congestion controls are %s; modprobe tcp_%s if it is a module", ErrAbsent, has, control)
	}
	return err
}

// warm sends until the connection has its window.
func (t *track) warm(client, server *lab.Socket) (*unix.TCPInfo, error) {
	const most = 1000
	for range most {
		info, err := t.sendBulk(client, server, bulk)
		if err != nil || info.Snd_cwnd >= warmWindow {
			return info, err
		}
	}
	return nil, fmt.Errorf("the congestion window did not grow to %d segments", warmWindow)
}

// sendBulk sends so much that the server receives unread bytes, and waits until
// all is acknowledged.
func (t *track) sendBulk(client, server *lab.Socket, unread int) (info *unix.TCPInfo, err error) {
	received := make(chan error, 1)
	go func() { received <- receive(server, unread) }()
	_, err = client.Write(make([]byte, bulk))
	if err := errors.Join(err, <-received); err != nil {
		return nil, err
	}
	err = t.await("an acknowledgement", func() (bool, error) {
		info, err = client.Info()
		return err == nil && info.Unacked == 0 && info.Notsent_bytes == 0, err
	})
	return info, err
}

func receive(s *lab.Socket, n int) error {
	buf := make([]byte, 1<<16)
	for n > 0 {
		m, err := s.Read(buf)
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}
