"""The blocking twin of Client.stream."""

from __future__ import annotations

import os
import select
from collections import deque
from typing import Any, Deque, Generator, Iterable, Iterator, Optional, Union

from ._errors import EngineError
from ._messages import HeaderTypes, Response, header_lines
from ._process import Connection, Options, Process, Socket, find_binary
from ._wire import FILL, READ_SIZE, UNSENT_MOST, Asked, Wire, check_stream, share_of


def fetch(
    requests: Iterable[Asked],
    *,
    in_flight: Optional[int] = None,
    headers: Optional[HeaderTypes] = None,
    binary: Union[str, "os.PathLike[str]", None] = None,
    socket: Optional[str] = None,
    **options: Any,
) -> Generator[Response, None, None]:
    """Sends all requests (URLs, or Request objects) and yields responses as they
    complete, like Client.stream, without asyncio and without threads:

        for r in hotlap.fetch(urls, connections=64):
            print(r.status_code, r.url)

    options are those of Client. The co-process lives as long as the iterator:
    until its end, or until it is closed, or not used any more.
    """
    check_stream(requests, in_flight)
    wire = Wire(header_lines(headers) if headers else b"")
    configured = Options(**options)
    return _run(wire, configured, binary, socket, iter(requests), in_flight)


def _run(
    wire: Wire,
    options: Options,
    binary: Union[str, "os.PathLike[str]", None],
    socket: Optional[str],
    requests: Iterator[Asked],
    in_flight: Optional[int],
) -> Generator[Response, None, None]:
    connection: Connection = Socket(socket) if socket is not None else Process(find_binary(binary), options)
    try:
        link = _Link(wire, connection)
        while not wire.ready:
            link.turn(wait=True)
        most = wire.window if in_flight is None else min(in_flight, wire.window)
        yield from _stream(wire, link, requests, most)
        connection.end_input()
        while not wire.ended:
            link.turn(wait=True)
    finally:
        connection.end()


def _stream(wire: Wire, link: _Link, requests: Iterator[Asked], most: int) -> Iterator[Response]:
    ready: Deque[Response] = deque()
    take, give = ready.append, ready.popleft
    more, taken, share = True, 0, share_of(most)
    while more or taken:
        room = min(most - taken, FILL) if more and link.unsent_size <= UNSENT_MOST else 0
        if room > 0:
            count, ended = wire.ask_from(requests, room, take)
            taken += count
            more = not ended
        link.turn(wait=taken > 0 and not ready and not (more and room > 0))
        for _ in range(min(len(ready), share)):
            taken -= 1
            yield give()


class _Link:
    """Moves bytes between a wire and an engine."""

    def __init__(self, wire: Wire, connection: Connection) -> None:
        self._wire = wire
        self._connection = connection
        self._unsent: Deque[memoryview] = deque()
        self.unsent_size = 0
        self._poll = select.poll()
        self._write_wanted = False
        self._poll.register(connection.read_fd, select.POLLIN)

    def turn(self, wait: bool) -> None:
        """Writes and reads what can be now; with wait it waits for something to read."""
        data = self._wire.output()
        if data:
            self._unsent.append(memoryview(data))
            self.unsent_size += len(data)
        if self._unsent:
            self._write()
        self._want_write(bool(self._unsent))
        for fd, event in self._poll.poll(None if wait else 0):
            if fd == self._connection.read_fd and event & ~select.POLLOUT:
                self._read()

    def _want_write(self, wanted: bool) -> None:
        if wanted == self._write_wanted:
            return
        self._write_wanted = wanted
        c = self._connection
        if c.read_fd == c.write_fd:
            self._poll.modify(c.read_fd, select.POLLIN | select.POLLOUT if wanted else select.POLLIN)
        elif wanted:
            self._poll.register(c.write_fd, select.POLLOUT)
        else:
            self._poll.unregister(c.write_fd)

    def _read(self) -> None:
        try:
            data = os.read(self._connection.read_fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # a socket's peer is gone
            data = b""
        if data:
            self._wire.feed(data)
            return
        if self._wire.fatal:
            raise EngineError(f"hotlap refused what this package sent (a bug in it): {self._wire.fatal}")
        lost = self._wire.in_flight  # even after BYE, which answers only what was read, as after SIGTERM
        how = self._connection.end()
        raise EngineError(how + (f" with {lost} requests in flight" if lost else ""))

    def _write(self) -> None:
        while self._unsent:
            try:
                n = os.write(self._connection.write_fd, self._unsent[0])
            except BlockingIOError:
                return
            except OSError:  # it is gone: the end of its output says more
                self._unsent.clear()
                self.unsent_size = 0
                return
            self.unsent_size -= n
            if n < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][n:]
            else:
                self._unsent.popleft()
