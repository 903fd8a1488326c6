package netlink

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

func message(kind, flags uint16, sequence uint32, body ...byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(headerBytes+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, body...)
	return append(b, make([]byte, align(len(body))-len(body))...)
}

func errno(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e))) }

func TestAnswer(t *testing.T) {
	const kind = 20
	stop := errors.New("stop")
	done := message(unix.NLMSG_DONE, 0, 7, errno(0)...)
	for _, c := range []struct {
		name      string
		datagrams [][]byte
		bodies    []string
		done      bool
		err       error // of the request
		broken    bool  // take gives up
	}{
		{"two parts", [][]byte{append(message(kind, 0, 7, 'a'), message(kind, 0, 7, 'b', 'c')...), done}, []string{"a", "bc"}, true, nil, false},
		{"not yet done", [][]byte{message(kind, 0, 7, 'a')}, []string{"a"}, false, nil, false},
		{"an older request's answer", [][]byte{message(kind, 0, 6, 'x'), message(unix.NLMSG_DONE, 0, 6), done}, nil, true, nil, false},
		{"an acknowledgement", [][]byte{message(unix.NLMSG_ERROR, 0, 7, errno(0)...)}, nil, true, nil, false},
		{"refused", [][]byte{message(unix.NLMSG_ERROR, 0, 7, errno(unix.EPERM)...)}, nil, true, unix.EPERM, false},
		{"failed on the way", [][]byte{message(kind, 0, 7, 'a'), message(unix.NLMSG_DONE, 0, 7, errno(unix.ENOBUFS)...)}, []string{"a"}, true, unix.ENOBUFS, false},
		{"interrupted, all delivered", [][]byte{message(kind, unix.NLM_F_DUMP_INTR, 7, 'a'), message(kind, 0, 7, 'b'), done}, []string{"a", "b"}, true, ErrInterrupted, false},
		{"interrupted at the end", [][]byte{message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, 7, errno(0)...)}, nil, true, ErrInterrupted, false},
		{"the caller stops", [][]byte{message(kind, 0, 7, '!'), message(kind, 0, 7, 'b'), done}, []string{"!"}, true, stop, false},
		{"short header", [][]byte{{1, 2, 3}}, nil, false, nil, true},
		{"longer than the datagram", [][]byte{message(kind, 0, 7, 'a')[:headerBytes]}, nil, false, nil, true},
		{"length under a header's", [][]byte{make([]byte, headerBytes)}, nil, false, nil, true},
		{"an error of nothing", [][]byte{message(unix.NLMSG_ERROR, 0, 7)}, nil, true, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var bodies []string
			a := answer{sequence: 7, each: func(k uint16, body []byte) error {
				bodies = append(bodies, string(body))
				if string(body) == "!" {
					return stop
				}
				return nil
			}}
			var broken error
			for _, d := range c.datagrams {
				if broken = a.take(d); broken != nil {
					break
				}
			}
			if (broken != nil) != c.broken || a.done != c.done || !errors.Is(a.err, c.err) || !reflect.DeepEqual(bodies, c.bodies) {
				t.Errorf("bodies %q, done %v, error %v, broken %v", bodies, a.done, a.err, broken)
			}
		})
	}
}

// Attributes survive being written and read, whatever their length.
func TestAttributes(t *testing.T) {
	values := map[uint16]string{1: "", 2: "a", 3: "abcd", 4: "abcde"}
	var b []byte
	for kind := uint16(1); kind <= 4; kind++ {
		b = AppendAttribute(b, kind, []byte(values[kind]))
	}
	got := map[uint16]string{}
	if err := Attributes(b, func(kind uint16, v []byte) { got[kind] = string(v) }); err != nil || !reflect.DeepEqual(got, values) {
		t.Errorf("got %v, %v", got, err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(append(message(20, 2, 7, 8, 0, 1, 0, 9, 9, 9, 9), message(unix.NLMSG_DONE, 0, 7, 0, 0, 0, 0)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		size := 0
		a := answer{sequence: 7, each: func(_ uint16, body []byte) error {
			size += headerBytes + len(body)
			return Attributes(body, func(_ uint16, v []byte) {
				if len(v) > len(body)-unix.SizeofNlAttr {
					t.Error("an attribute longer than its message")
				}
			})
		}}
		_ = a.take(b)
		if size > len(b) {
			t.Errorf("%d bytes of messages out of %d", size, len(b))
		}
	})
}

// The kernel itself answers: every namespace has a loopback device; a device
// that is not there is an error; and the connection survives both.
func TestKernel(t *testing.T) {
	c, err := Open(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		names := map[string]bool{}
		err = c.Dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(_ uint16, body []byte) error {
			return Attributes(body[unix.SizeofIfInfomsg:], func(kind uint16, v []byte) {
				if kind == unix.IFLA_IFNAME {
					names[unix.ByteSliceToString(v)] = true
				}
			})
		})
		if err != nil || !names["lo"] {
			t.Fatalf("links %v, %v", names, err)
		}
		absent := make([]byte, unix.SizeofIfInfomsg)
		binary.NativeEndian.PutUint32(absent[4:], 1<<30)
		if err := c.Do(unix.RTM_GETLINK, 0, absent); !errors.Is(err, unix.ENODEV) {
			t.Fatalf("an absent device: %v", err)
		}
	}
}
