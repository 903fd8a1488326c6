"""The protocol without an engine: what comes in any pieces comes out the same."""

import json
import struct
import unittest
from typing import List

from hotlap import EngineError, Request, Response
from hotlap._wire import BYE, CANCEL, FATAL, HELLO, NOT_SENT, REQUESTS, RESULTS, STATS, Wire

U = "http://a/"


def frame(kind: int, payload: bytes, count: int = 0) -> bytes:
    return struct.pack("<III", kind, count, len(payload)) + payload


def hello(window: int = 4, protocol: int = 1, max_frame: int = 1 << 26) -> bytes:
    return frame(
        HELLO,
        json.dumps(
            {
                "protocol": protocol,
                "version": "9",
                "window": window,
                "max_frame": max_frame,
                "kinds": ["", "invalid_request", "new"],
                "phases": ["", "queue"],
            }
        ).encode(),
    )


def results(*answers: "tuple[int, int, int, bytes, bytes]") -> bytes:
    """A frame of results: id, status, kind, head, body."""
    entries, rest = b"", b""
    for ident, status, kind, head, body in answers:
        entries += struct.pack("<QHBBIIHBB", ident, status, kind, 1 if kind else 0, len(head), len(body), 3 if kind else 0, 4, 0)
        entries += struct.pack("<QQQQIIII", 1_000_000, 1, 2, len(body), 3, 4, 5, 6)
        rest += head + (b"why" if kind else b"") + b"a:80" + body
    return frame(RESULTS, entries + rest, len(answers))


class WireTest(unittest.TestCase):
    def test_any_pieces(self) -> None:
        stream = hello() + results((0, 200, 0, b"H1\r\n", b"one"), (2, 404, 0, b"", b"")) + frame(99, b"unknown")
        stream += results((1, 0, 2, b"", b"")) + frame(STATS, b'{"x":1}') + frame(BYE, b"{}")
        for size in (1, 2, 3, 7, 12, 13, 50, 100, len(stream)):
            wire, got, stats = Wire(), [], []  # type: ignore[var-annotated]
            wire.on_stats = stats.append
            for _ in range(3):
                wire.ask(U, got.append)
            for at in range(0, len(stream), size):
                wire.feed(stream[at : at + size])
            self.assertEqual([(r.status_code, r.content) for r in got], [(200, b"one"), (404, b""), (0, b"")])
            self.assertEqual([r.remote for r in got], ["a:80"] * 3)
            self.assertEqual((got[0].raw_head, got[0].attempts), (b"H1\r\n", 6))
            error = got[2].error
            self.assertEqual((error.kind, error.phase, error.args[0]), ("new", "queue", "why"))
            self.assertEqual(stats, [{"x": 1}])
            self.assertEqual((wire.ended, wire.in_flight, wire.window), (True, 0, 4))

    def test_room(self) -> None:
        wire, got = Wire(), []  # type: ignore[var-annotated]
        wire.feed(hello(window=2))
        self.assertEqual(wire.ask_from(iter([U] * 3), wire.room, got.append), (2, False))
        self.assertEqual(wire.room, 0)
        self.assertEqual(wire.ask_from(iter([U]), wire.room, got.append), (0, False))
        wire.feed(results((1, 200, 0, b"", b"")))
        self.assertEqual(wire.room, 1)
        self.assertEqual(wire.ask_from(iter([]), wire.room, got.append), (0, True))

    def test_requests(self) -> None:
        wire = Wire(b"A: 1\r\nB: 2\r\n")
        ignore: List[Response] = []
        wire.ask("u1", ignore.append)
        wire.ask(Request("PUT", "u2", headers={"b": "3", "C": None}, content=b"", timeout=0.0001), ignore.append)
        wire.cancel([0, 99])
        wire.cancel([1])
        wire.ask_stats()
        want_entries = struct.pack("<QIIIIHH", 0, 0, 2, 12, 0, 0, 0) + struct.pack("<QIIIIHH", 1, 1, 2, 15, 0, 3, 1)
        want = frame(REQUESTS, want_entries + b"u1A: 1\r\nB: 2\r\n" + b"PUTu2A: 1\r\nb: 3\r\nC\r\n", 2)
        want += frame(STATS, b"") + frame(CANCEL, struct.pack("<2Q", 0, 1), 2)
        self.assertEqual(wire.output(), want)
        self.assertEqual(wire.output(), b"")

    def test_default_headers(self) -> None:
        wire = Wire(b"A: 1\r\nA: 2\r\nB: 3\r\n")
        wire.ask(Request("GET", "u", headers={"b": "4"}, timeout=float("inf")), lambda r: None)
        want = struct.pack("<QIIIIHH", 0, 0xFFFFFFFF, 1, 18, 0, 0, 0) + b"uA: 1\r\nA: 2\r\nb: 4\r\n"
        self.assertEqual(wire.output(), frame(REQUESTS, want, 1))

    def test_large_requests_have_frames_of_their_own(self) -> None:
        wire = Wire()
        wire.feed(hello(max_frame=100))
        ignore: List[Response] = []
        for c in (b"1", b"2"):
            wire.ask(Request("PUT", "u", content=c * 60), ignore.append)
        data = wire.output()
        first = frame(REQUESTS, struct.pack("<QIIIIHH", 0, 0, 1, 0, 60, 3, 1) + b"PUTu" + b"1" * 60, 1)
        self.assertEqual(data[: len(first)], first)
        self.assertEqual(len(data), 2 * len(first))
        refused: List[Response] = []
        self.assertEqual(wire.ask(Request("PUT", "u", content=b"x" * 100), refused.append), NOT_SENT)
        self.assertIn("takes at most 100", str(refused[0].error))
        self.assertEqual((wire.room, wire.output()), (2, b""))

    def test_endings(self) -> None:
        wire = Wire()
        wire.feed(hello() + frame(FATAL, b"no"))
        self.assertEqual((wire.ended, wire.fatal), (True, "no"))
        with self.assertRaisesRegex(EngineError, "speaks version 2 of the protocol"):
            Wire().feed(hello(protocol=2))
        for other in (b"usage: something else", frame(HELLO, b"")[:8] + b"\xff" * 4, frame(BYE, b"{}"), results((0, 0, 0, b"", b""))):
            with self.assertRaisesRegex(EngineError, "no hotlap pipe"):
                Wire().feed(other)

    def test_canceled_goes_nowhere(self) -> None:
        wire, got, other = Wire(), [], []  # type: ignore[var-annotated]
        wire.feed(hello())
        take = got.append
        wire.ask(U, take)
        wire.ask(U, other.append)
        wire.cancel_all_of(take)
        wire.feed(results((0, 200, 0, b"", b""), (1, 200, 0, b"", b"")))
        self.assertEqual((len(got), len(other), wire.room), (0, 1, 4))


if __name__ == "__main__":
    unittest.main()
