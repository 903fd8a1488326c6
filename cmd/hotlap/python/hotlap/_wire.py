"""The protocol of hotlap pipe, without I/O: see PROTOCOL.md.

This is the hot path: what runs once per request or response is inlined, and
everything that can wait until somebody asks for it does.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from ._errors import EngineError
from ._messages import Request, Response, header_lines

PROTOCOL = 1
HELLO, REQUESTS, RESULTS, CANCEL, STATS, BYE, FATAL = range(1, 8)

# For those who move the bytes.
READ_SIZE = 1 << 18
FILL = 256  # requests that are taken from an iterable at once
UNSENT_MOST = 1 << 20  # bytes that wait to be written, before no more are made
NOT_SENT = -1  # the id of a request that was refused here

_HEADER = struct.Struct("<III")
_ASK = struct.Struct("<QIIIIHH")
_RESULT = struct.Struct("<QHHIIHBB48s")  # kind and phase are one number here
_RESULT_SIZE = 72
_HAS_BODY = 1
_MAX_ENTRIES = 1 << 16
_FILL_SECONDS = 0.005
_SHARE_MOST = 128
_HELLO_MOST = 1 << 16  # bytes of it that are believed
_BULK_MOST = 1 << 20  # bytes of large requests that are put together before they are sent

Asked = Union[str, Request]
Taker = Callable[[Response], object]


class Wire:
    """One session: requests in, bytes out; bytes in, responses out.

    A request takes one of the places in the window; its response gives it back.
    """

    def __init__(self, default_headers: bytes = b"") -> None:
        self.room = 0  # places in the window that are free
        self.window = 0
        self.ended = False  # BYE or FATAL has come
        self.fatal = ""  # what FATAL said
        self.on_stats: Callable[[Dict[str, Any]], None] = lambda stats: None
        self._default_headers = default_headers
        self._default_lines = [
            (line.split(b":")[0].lower(), line + b"\r\n") for line in default_headers.split(b"\r\n") if line
        ]
        self._names: Tuple[List[str], List[str]] = ([""], [""])
        self._max_frame = 1 << 26
        self._next_id = 0
        self._pending: Dict[int, Response] = {}
        self._entries: List[bytes] = []  # of requests that are to be sent
        self._rest: List[bytes] = []
        self._bulk = 0  # bytes of those of them that have more than a URL
        self._control: List[bytes] = []  # whole frames that follow them
        self._canceled: List[int] = []  # ids that are to be canceled
        self._partial: List[bytes] = []  # of a frame that is not complete
        self._partial_size = 0
        self._wanted = 0  # the size at which it is worth looking again

    # Requests out.

    @property
    def in_flight(self) -> int:
        """Requests without a response."""
        return len(self._pending)

    def ask(self, asked: Asked, done: Taker) -> int:
        """Adds a request to what is to be sent, and returns its id. done is
        called with its response, in feed; here, and the id is that of nothing,
        if the protocol has no way to say the request."""
        try:
            if isinstance(asked, str):
                url, lines = asked.encode(), self._default_headers
                entry = _ASK.pack(self._next_id, 0, len(url), len(lines), 0, 0, 0)
                self._rest.append(url)
                if lines:
                    self._rest.append(lines)
            else:
                entry = self._ask(asked)
        except ValueError as e:
            done(Response.refused(asked, str(e)))
            return NOT_SENT
        self._entries.append(entry)
        response = Response.__new__(Response)
        response._asked = asked
        response._done = done
        ident = self._next_id
        self._pending[ident] = response
        self._next_id = ident + 1
        self.room -= 1
        return ident

    def ask_from(self, source: Iterator[Asked], most: int, done: Taker) -> Tuple[int, bool]:
        """Takes requests from an iterable, at most so many and not for long: what
        it gave is to be sent. Says how many, and whether it has ended."""
        ask, until, count = self.ask, time.monotonic() + _FILL_SECONDS, 0
        if most > 0:
            for asked in source:
                ask(asked, done)
                count += 1
                if count == most or self._bulk > _BULK_MOST or time.monotonic() > until:
                    return count, False
        return count, most > 0

    def _ask(self, q: Request) -> bytes:
        """The entry of a request that has more than a URL."""
        if not isinstance(q, Request):
            raise TypeError(f"{q!r} is neither a URL (a str) nor a Request")
        method = b"" if q.method == "GET" else q.method.encode()
        url, lines, body = q.url.encode(), self._lines(q), q.content or b""
        if not isinstance(body, bytes):
            raise TypeError(f"the content of {q!r} is a {type(body).__name__}, want bytes")
        if len(method) > 0xFFFF:
            raise ValueError(f"a method of {len(method)} bytes")
        size = len(method) + len(url) + len(lines) + len(body) + _ASK.size
        if size > self._max_frame:
            raise ValueError(f"a request of {size} bytes, hotlap takes at most {self._max_frame}")
        timeout = 0 if q.timeout is None else max(1, round(min(q.timeout * 1000, 0xFFFFFFFF)))
        flags = 0 if q.content is None else _HAS_BODY
        entry = _ASK.pack(self._next_id, timeout, len(url), len(lines), len(body), len(method), flags)
        self._rest += (method, url, lines, body)
        self._bulk += size
        return entry

    def _lines(self, q: Request) -> bytes:
        own = header_lines(q.headers) if q.headers else b""
        if not own:
            return self._default_headers
        if not self._default_headers:
            return own
        named = {name.encode("latin-1", "replace").lower() for name in q.headers}
        kept = [line for name, line in self._default_lines if name not in named]
        return b"".join(kept) + own

    def cancel(self, idents: List[int]) -> None:
        """Has requests canceled; what is still to come of them goes nowhere."""
        found = [i for i in idents if i in self._pending]
        for i in found:
            self._pending[i]._done = _ignore
        self._canceled += found

    def cancel_all_of(self, done: Taker) -> None:
        """Cancels the requests whose responses were to go to done."""
        self.cancel([i for i, r in self._pending.items() if r._done is done])

    def ask_stats(self) -> None:
        """Asks for statistics: see on_stats."""
        self._finish_requests()
        self._control.append(_HEADER.pack(STATS, 0, 0))

    def output(self) -> bytes:
        """What is to be sent now. Cancels come last, behind their requests."""
        self._finish_requests()
        for at in range(0, len(self._canceled), _MAX_ENTRIES):
            part = self._canceled[at : at + _MAX_ENTRIES]
            self._control.append(_HEADER.pack(CANCEL, len(part), 8 * len(part)) + struct.pack(f"<{len(part)}Q", *part))
        self._canceled.clear()
        data = b"".join(self._control)
        self._control.clear()
        return data

    def _finish_requests(self) -> None:
        """Makes frames of the requests so far."""
        entries, rest = self._entries, self._rest
        if not entries:
            return
        size = sum(map(len, rest)) + _ASK.size * len(entries)
        if size <= self._max_frame and len(entries) <= _MAX_ENTRIES:
            self._control.append(_HEADER.pack(REQUESTS, len(entries), size))
            self._control += entries
            self._control += rest
        else:
            self._one_by_one(b"".join(rest))
        self._entries, self._rest, self._bulk = [], [], 0

    def _one_by_one(self, rest: bytes) -> None:
        """Large requests have a frame each."""
        at = 0
        for entry in self._entries:
            _, _, url, lines, body, method, _ = _ASK.unpack(entry)
            size = url + lines + body + method
            self._control += (_HEADER.pack(REQUESTS, 1, _ASK.size + size), entry, rest[at : at + size])
            at += size

    # Results in.

    def feed(self, data: bytes) -> None:
        """Takes bytes apart that were read, and hands responses to their takers."""
        if self._partial:
            self._partial.append(data)
            self._partial_size += len(data)
            if self._partial_size < self._wanted:
                return
            data = b"".join(self._partial)
            self._partial = []
        at, end = 0, len(data)
        wanted = _HEADER.size
        while end - at >= _HEADER.size:
            kind, count, length = _HEADER.unpack_from(data, at)
            if not self.window and (kind != HELLO or length > _HELLO_MOST):
                raise EngineError(f"this is no hotlap pipe, it begins with {data[at : at + 20]!r}")
            if end - at < _HEADER.size + length:
                wanted = _HEADER.size + length
                break
            at += _HEADER.size
            if kind == RESULTS:
                self._results(data, at, count)
            else:
                self._other(kind, data[at : at + length])
            at += length
        if at < end:
            self._partial = [data[at:]]
            self._partial_size = end - at
            self._wanted = wanted

    def _results(self, data: bytes, at: int, count: int) -> None:
        pending, names = self._pending.pop, self._names
        entries = memoryview(data)[at : at + count * _RESULT_SIZE]
        at += count * _RESULT_SIZE
        self.room += count
        for ident, status, kind, head_size, body_size, message_size, remote_size, flags, times in _RESULT.iter_unpack(entries):
            r = pending(ident)
            body = at + head_size + message_size + remote_size
            r.status_code = status
            r._kind = kind
            r._head = data[at:body]
            r._head_size = head_size
            r._message_size = message_size
            r._flags = flags
            r._times = times
            r._names = names
            at = body + body_size
            r.content = data[body:at]
            done = r._done
            del r._done
            done(r)

    def _other(self, kind: int, payload: bytes) -> None:
        if kind == HELLO:
            self._hello(json.loads(payload))
        elif kind == STATS:
            self.on_stats(json.loads(payload))
        elif kind == BYE:
            self.ended = True
        elif kind == FATAL:
            self.ended, self.fatal = True, payload.decode("utf-8", "replace")

    def _hello(self, hello: Dict[str, Any]) -> None:
        if hello["protocol"] != PROTOCOL:
            raise EngineError(
                f"hotlap {hello['version']} speaks version {hello['protocol']} of the protocol,"
                f" this package version {PROTOCOL}: use those that belong together"
            )
        self._names = (hello["kinds"], hello["phases"])
        self._max_frame = hello["max_frame"]
        self.window = self.room = hello["window"]

    @property
    def ready(self) -> bool:
        """HELLO has come."""
        return self.window > 0

    def abandon(self) -> List[Response]:
        """Forgets what is in flight, and returns it."""
        lost = list(self._pending.values())
        self._pending.clear()
        return lost


def check_stream(requests: object, in_flight: Optional[int]) -> None:
    """Refuses mistakes where they are made."""
    if isinstance(requests, (str, bytes, Request)):
        raise TypeError(f"requests is a {type(requests).__name__}, want an iterable of URLs or Requests: put it into a list")
    if in_flight is not None and in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}, want 1 or more")


def share_of(most: int) -> int:
    """How many responses are given out before their places are filled again, of
    most that may be open: many for speed, few enough that the rest keeps going."""
    return max(1, min(_SHARE_MOST, most // 4))


def _ignore(response: Response) -> Optional[object]:
    return None
