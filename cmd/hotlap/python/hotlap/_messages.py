"""Requests, responses and headers, as people know them from httpx and requests."""

from __future__ import annotations

import json as _json
import struct
from datetime import datetime, timedelta, timezone
from time import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import urlencode

from ._errors import RequestError, StatusError, error_class, shown

HeaderValue = Union[str, Sequence[str], None]
HeaderTypes = Union[Mapping[str, HeaderValue], Iterable[Tuple[str, HeaderValue]]]
Pairs = Union[Mapping[str, Any], Sequence[Tuple[str, Any]]]

# What follows in a result's entry behind the lengths: see PROTOCOL.md, offset 24.
_TIMES = struct.Struct("<QQQQIIII")
_MICROSECOND = 1e-6


class Headers(Mapping[str, str]):
    """Header fields of a response. Names are found in any case.

    A name that came several times has its values joined by ", ", as
    RFC 9110 section 5.3 allows; get_list has them one by one.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: List[Tuple[str, str]]) -> None:
        self._fields = fields

    @classmethod
    def parse(cls, head: bytes) -> Headers:
        """Takes a response head apart, which the engine has checked."""
        fields = []
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                fields.append((name, value.strip(" \t")))
        return cls(fields)

    def get_list(self, name: str) -> List[str]:
        """All values of a name, in the order received."""
        name = name.lower()
        return [v for n, v in self._fields if n.lower() == name]

    def multi_items(self) -> List[Tuple[str, str]]:
        """All fields in the order received, names as received."""
        return list(self._fields)

    def __getitem__(self, name: str) -> str:
        values = self.get_list(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_list(name))

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): None for name, _ in self._fields})

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


class Request:
    """What is to be sent.

    method is sent in capitals. url is absolute, and sent byte for byte; params are added to its query.
    params, data and headers are a mapping or pairs. A header's value is a
    string, a list of strings for a repeated name, or None to leave a default
    out. content is the body; json or data (a form) make one. timeout, in seconds, is for the request as a whole, all waits and
    retries included. meta is yours: anything that you want to find again at
    response.request.meta.
    """

    __slots__ = ("method", "url", "headers", "content", "timeout", "meta")

    def __init__(
        self,
        method: str,
        url: str,
        *,
        params: Union[Pairs, str, None] = None,
        headers: Optional[HeaderTypes] = None,
        content: Union[bytes, bytearray, memoryview, str, None] = None,
        data: Union[Pairs, bytes, str, None] = None,
        json: Any = None,
        timeout: Optional[float] = None,
        meta: Any = None,
    ) -> None:
        if sum(body is not None for body in (content, data, json)) > 1:
            raise ValueError("content, data and json exclude each other")
        if not isinstance(url, str):
            raise TypeError(f"url is a {type(url).__name__}, want a str")
        fields = header_fields(headers) if headers else {}
        if json is not None:
            content = _json.dumps(json, ensure_ascii=False, separators=(",", ":"))
            _default(fields, "Content-Type", "application/json")
        elif isinstance(data, (bytes, str)):  # as in requests
            content = data
        elif data is not None:
            content = urlencode(data, doseq=True)
            _default(fields, "Content-Type", "application/x-www-form-urlencoded")
        if params:
            url = _with_query(url, params if isinstance(params, str) else urlencode(params, doseq=True))
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout is a {type(timeout).__name__}, want seconds, or None")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout is {timeout}, want seconds above 0, or None")
        self.method = method.upper()
        self.url = url
        self.headers = fields
        self.content = content if content is None else _as_bytes(content)
        self.timeout = timeout
        self.meta = meta

    def __repr__(self) -> str:
        return f"<Request {shown(self.method)} {shown(self.url)}>"


def _as_bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)  # no copy of bytes
    raise TypeError(f"content is a {type(content).__name__}, want bytes or a str")


def _default(fields: Dict[str, HeaderValue], name: str, value: str) -> None:
    if all(n.lower() != name.lower() for n in fields):
        fields[name] = value


def _with_query(url: str, query: str) -> str:
    url, hash_sign, fragment = url.partition("#")
    return url + ("&" if "?" in url else "?") + query + hash_sign + fragment


def header_fields(headers: HeaderTypes) -> Dict[str, HeaderValue]:
    """Header fields by name. Those of pairs may come several times."""
    if isinstance(headers, Mapping):
        return dict(headers)
    fields: Dict[str, HeaderValue] = {}
    for name, value in headers:
        before = fields.get(name)
        fields[name] = value if before is None or value is None else [*_values(before), *_values(value)]
    return fields


def _values(value: HeaderValue) -> Sequence[str]:
    """The values of a field: what is no sequence of them is one, right or wrong."""
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else (value,)  # type: ignore[return-value]


def header_lines(headers: HeaderTypes) -> bytes:
    """Header fields as the protocol has them."""
    lines = []
    for name, value in header_fields(headers).items():
        if not isinstance(name, str):
            raise TypeError(f"header name {name!r} is a {type(name).__name__}, want a str")
        if "\r" in name or "\n" in name or ":" in name:
            raise ValueError(f"{name!r} is no header name")
        if value is None:
            lines.append(_encoded(name + "\r\n"))
            continue
        for v in _values(value):
            if not isinstance(v, str):
                raise TypeError(f"the value of header {name} is a {type(v).__name__}, want a str, a list of them, or None")
            if "\r" in v or "\n" in v:
                raise ValueError(f"the value of header {name} has a line break")
            lines.append(_encoded(f"{name}: {v}\r\n"))
    return b"".join(lines)


def _encoded(line: str) -> bytes:
    """RFC 9110 section 5.5 knows ISO-8859-1 of old; what has no place in it is UTF-8."""
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode()


class Times(NamedTuple):
    """The parts of a request's life, in seconds; README.md explains them."""

    queued: float  # nothing was done for it: it waited for its turn
    connect: float  # resolving and connecting, in the last attempt
    tls: float  # the TLS handshake, in the last attempt
    ttfb: float  # from written, and first in line, to the first byte of the response
    total: float  # all of it


class Response:
    """The one end of one request: a response, or an error, or both where the
    head arrived and the body failed. It is made by a Client."""

    __slots__ = (
        "status_code", "content", "_asked", "_done", "_head", "_head_size", "_times", "_kind", "_names", "_flags",
        "_message_size", "_headers", "_error",
    )  # fmt: skip

    status_code: int  # 0 if no response head arrived
    content: bytes  # what was kept of the body
    _asked: Union[str, Request]
    _done: Callable[[Response], object]  # takes it when it has ended
    _head: bytes  # head, message, remote address
    _head_size: int
    _message_size: int
    _times: bytes
    _kind: int  # kind, and phase << 8
    _flags: int
    _names: Tuple[List[str], List[str]]  # of kinds and of phases
    _headers: Headers
    _error: Optional[RequestError]

    @classmethod
    def refused(cls, asked: Union[str, Request], why: str) -> Response:
        """That of a request that cannot even be given to the engine."""
        r = cls.__new__(cls)
        r.status_code, r.content, r._asked = 0, b"", asked
        r._head, r._head_size, r._flags = why.encode("utf-8", "backslashreplace"), 0, 0
        r._message_size = len(r._head)
        r._times = _TIMES.pack(int(time() / _MICROSECOND), 0, 0, 0, 0, 0, 0, 0)
        r._names, r._kind = (["", "invalid_request"], ["", "queue"]), 1 | 1 << 8
        return r

    @property
    def request(self) -> Request:
        """The request that this answers: the very object that was given, if it was one."""
        asked = self._asked
        if isinstance(asked, str):
            asked = self._asked = Request("GET", asked)
        return asked

    @property
    def url(self) -> str:
        asked = self._asked
        return asked if isinstance(asked, str) else asked.url

    @property
    def error(self) -> Optional[RequestError]:
        """Why there is no complete response; None if there is one."""
        if not self._kind:
            return None
        try:
            return self._error
        except AttributeError:
            pass
        kind, phase = self._name(0, self._kind & 0xFF), self._name(1, self._kind >> 8)
        message = self._head[self._head_size : self._head_size + self._message_size].decode("utf-8", "replace")
        self._error = error_class(kind)(message, kind, phase, self)
        return self._error

    def _name(self, which: int, number: int) -> str:
        names = self._names[which]
        return names[number] if number < len(names) else str(number)

    @property
    def headers(self) -> Headers:
        try:
            return self._headers
        except AttributeError:
            self._headers = Headers.parse(self._head[: self._head_size])
            return self._headers

    @property
    def raw_head(self) -> bytes:
        """The response head as the server sent it."""
        return self._head[: self._head_size]

    @property
    def http_version(self) -> str:
        return self._status_line()[0]

    @property
    def reason_phrase(self) -> str:
        return self._status_line()[2]

    def _status_line(self) -> Tuple[str, str, str]:
        line = self.raw_head.partition(b"\r\n")[0].decode("latin-1")
        version, _, rest = line.partition(" ")
        code, _, reason = rest.partition(" ")
        return version, code, reason

    @property
    def remote(self) -> str:
        """Address and port of the last attempt, "" if there was none."""
        return self._head[self._head_size + self._message_size :].decode("ascii")

    @property
    def encoding(self) -> str:
        """The charset that Content-Type names, else UTF-8."""
        if b"charset" not in self._head.lower():  # most have none: no need to take the head apart
            return "utf-8"
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip(" \"'")
        return "utf-8"

    @property
    def text(self) -> str:
        """The body as text. Bytes that are none become U+FFFD."""
        try:
            return self.content.decode(self.encoding, "replace")
        except (LookupError, ValueError):  # no charset, or one that cannot replace, such as idna
            return self.content.decode("utf-8", "replace")

    def json(self, **kwargs: Any) -> Any:
        """The body, decoded as JSON; kwargs go to json.loads."""
        return _json.loads(self.content, **kwargs)

    @property
    def is_success(self) -> bool:
        """A complete response with a status of 200 to 299."""
        return not self._kind and 200 <= self.status_code < 300

    @property
    def truncated(self) -> bool:
        """The body was longer than the client's max_body; the rest was dropped."""
        return bool(self._flags & 1)

    def raise_for_status(self) -> Response:
        """Raises error, if there is one, or StatusError for 400 and above."""
        error = self.error
        if error is not None:
            raise error
        if self.status_code >= 400:
            raise StatusError(f"{self.status_code} {self.reason_phrase} for {self.request.method} {shown(self.url)}", self)
        return self

    @property
    def times(self) -> Times:
        _, queued, total, _, connect, tls, ttfb, _ = _TIMES.unpack(self._times)
        u = _MICROSECOND
        return Times(queued * u, connect * u, tls * u, ttfb * u, total * u)

    @property
    def start(self) -> datetime:
        """When the engine took the request."""
        return datetime.fromtimestamp(_TIMES.unpack(self._times)[0] * _MICROSECOND, timezone.utc)

    @property
    def elapsed(self) -> timedelta:
        """From when the engine took the request to its end, waits and retries included."""
        return timedelta(microseconds=_TIMES.unpack(self._times)[2])

    @property
    def body_bytes(self) -> int:
        """Length of the body as received, kept or not."""
        return int(_TIMES.unpack(self._times)[3])

    @property
    def attempts(self) -> int:
        """How often it was sent, or a connection for it was tried."""
        return int(_TIMES.unpack(self._times)[7])

    def __repr__(self) -> str:
        if self._kind:
            return f"<Response [{self._name(0, self._kind & 0xFF)}, status {self.status_code or 'none'}]>"
        return f"<Response [{self.status_code} {self.reason_phrase}]>"
