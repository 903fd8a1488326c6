"""The asynchronous client."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import OrderedDict, deque
from functools import partial
from typing import (
    Any, AsyncGenerator, AsyncIterable, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Type,
    Union,
)  # fmt: skip

from ._errors import EngineError
from ._messages import HeaderTypes, Request, Response, header_lines
from ._process import Connection, Options, Process, Socket, find_binary
from ._wire import FILL, NOT_SENT, READ_SIZE, UNSENT_MOST, Asked, Wire, check_stream, share_of

END_SECONDS = 2.0  # for the engine to end by itself
_END_TURNS = 4  # of the loop, for tasks to end with an error: asyncio.wait_for hands it on twice before Python 3.12


class Client:
    """Sends requests through a hotlap co-process. Use it as a context manager:

        async with hotlap.Client(connections=64, pipeline="auto") as client:
            response = await client.get("http://127.0.0.1:8080/hello")

    connections is how many may be open, in all and, unless per_host says
    otherwise, to one host. pipeline is how many requests may be outstanding on
    a connection, or "auto"; see README.md before you use it with servers that
    you do not know. rate and host_rate are requests per second. Times are in
    seconds: timeout (30) is for one attempt, connect_timeout (10) for resolving
    and connecting, read_timeout (15) for silence; math.inf is none. retries is how many further
    attempts idempotent requests get. headers go with every request. verify is
    False, or the path of certificates to trust; cert the path of a client's
    certificate, or of it and its key. max_body is how many bytes of a body are
    kept, max_memory of all that are on their way; max_in_flight how many requests are inside at once.
    flags are further ones of hotlap pipe. binary is the program, socket a
    hotlap pipe --listen to use instead of a process of one's own (which then
    has its own limits: those given here are for a process).
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        per_host: Optional[int] = None,
        pipeline: Union[int, str] = 1,
        loops: Optional[int] = None,
        rate: Optional[float] = None,
        host_rate: Optional[float] = None,
        timeout: Optional[float] = None,
        connect_timeout: Optional[float] = None,
        read_timeout: Optional[float] = None,
        retries: int = 2,
        headers: Optional[HeaderTypes] = None,
        verify: Union[bool, str] = True,
        cert: Union[str, Tuple[str, str], None] = None,
        proxy: Optional[str] = None,
        max_body: Optional[int] = None,
        max_memory: Optional[int] = None,
        max_in_flight: Optional[int] = None,
        flags: Sequence[str] = (),
        binary: Union[str, "os.PathLike[str]", None] = None,
        socket: Optional[str] = None,
    ) -> None:
        self._options = Options(
            connections=connections, per_host=per_host, pipeline=pipeline, loops=loops, rate=rate, host_rate=host_rate,
            timeout=timeout, connect_timeout=connect_timeout, read_timeout=read_timeout, retries=retries, verify=verify,
            cert=cert, proxy=proxy, max_body=max_body, max_memory=max_memory, max_in_flight=max_in_flight, flags=flags,
        )  # fmt: skip
        self._wire = Wire(header_lines(headers) if headers else b"")
        self._wire.on_stats = self._answer_stats
        self._binary = binary
        self._socket = socket
        self._connection: Optional[Connection] = None
        self._loop: asyncio.AbstractEventLoop
        self._dead: Optional[str] = None  # why there is no engine any more
        self._closing = False
        self._unsent: Deque[memoryview] = deque()
        self._unsent_size = 0
        self._flushing = False  # a flush is scheduled
        self._started: Optional[asyncio.Future[None]] = None
        self._ended: Optional[asyncio.Future[None]] = None
        self._streams: Set[_Stream] = set()
        self._queue: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # requests that wait for room
        self._askers: Deque[asyncio.Future[Dict[str, Any]]] = deque()  # of statistics
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()  # that ran when it ended
        self._owner: Optional[asyncio.Task[Any]] = None  # that opened the client
        self._told = False  # somebody has got the error that ended all
        self._untold: Optional[weakref.ref[asyncio.Task[Any]]] = None  # a task that nobody awaits: see _retrieve

    # Life.

    async def __aenter__(self) -> Client:
        if self._connection is not None:
            raise RuntimeError("a Client is used once: make another")
        self._loop = loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        if self._socket is not None:
            self._connection = Socket(self._socket)
        else:
            self._connection = Process(find_binary(self._binary), self._options)
        self._started, self._ended = loop.create_future(), loop.create_future()
        loop.add_reader(self._connection.read_fd, self._readable)
        try:
            await self._started
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: object
    ) -> None:
        if kind is not None:
            self._tell()
        await self._close(canceled=kind is not None and not issubclass(kind, Exception))

    async def aclose(self) -> None:
        """Cancels what is in flight, and ends the co-process."""
        await self._close(canceled=False)

    async def _close(self, canceled: bool) -> None:
        """canceled is where the program ends, or this part of it, as after Ctrl-C:
        those who wait are canceled, too. Otherwise they get an error."""
        connection, ended = self._connection, self._ended
        if connection is None or ended is None or self._closing:
            return
        self._closing = True
        try:
            if self._dead is None:
                idle = not self._wire.in_flight and not self._unsent
                self._fail("the client was closed", canceled)
                self._stop_writing()
                if idle and not canceled:
                    connection.end_input()
                    await asyncio.wait([ended], timeout=END_SECONDS)
            if not canceled:
                for _ in range(_END_TURNS):
                    await asyncio.sleep(0)
        finally:  # also where the task is canceled: no process stays behind
            for task in self._tasks:
                task.remove_done_callback(self._task_done)
            self._loop.remove_reader(connection.read_fd)
            connection.end(0.5)

    def _fail(self, why: str, canceled: bool = False) -> None:
        """Ends all that is in flight, and all that waits."""
        self._dead = why
        lost: List[Any] = [r._done for r in self._wire.abandon()]
        answers = deque(d.args[0] for d in lost if isinstance(d, partial))
        for futures in (answers, deque(self._queue), self._askers, *(s.waiters() for s in self._streams)):
            _end_all(futures, None if canceled else why)
        self._queue.clear()
        if self._started is not None and not self._started.done():
            self._started.set_exception(EngineError(why))
        for task in asyncio.all_tasks(self._loop):  # also those that wait for one that waits for us
            task.add_done_callback(self._task_done)
            self._tasks.add(task)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._loop.call_soon(self._retrieve, task)  # behind those who await it

    def _retrieve(self, task: asyncio.Task[Any]) -> None:
        """asyncio prints the error of each task that nobody awaits. Of those that
        end because the engine did that would be a storm: it is left one of them,
        and none if somebody has been told."""
        e = task._exception  # exception() would retrieve those of others, too
        if not task._log_traceback or not isinstance(e, EngineError) or e.args != (self._dead,):
            return
        if self._told or self._untold is not None:
            task.exception()
        else:
            self._untold = weakref.ref(task)

    def _tell(self) -> None:
        """Somebody has got the error, or one of their own."""
        self._told = True
        task = self._untold() if self._untold is not None else None
        if task is not None:
            task.exception()

    def _raised(self) -> None:
        """An EngineError is about to be raised to those who called."""
        if asyncio.current_task(self._loop) is self._owner:
            self._tell()

    @property
    def pid(self) -> Optional[int]:
        """The co-process; None with socket=."""
        return self._connection.pid if isinstance(self._connection, Process) else None

    @property
    def in_flight(self) -> int:
        """Requests that have been sent to the engine and have no response."""
        return self._wire.in_flight

    @property
    def max_in_flight(self) -> int:
        """How many may be: what was asked for, or what the engine has by default."""
        return self._wire.window

    # Requests.

    async def get(self, url: str, **options: Any) -> Response:
        """Sends a GET. options are those of Request."""
        return await self.send(Request("GET", url, **options) if options else url)

    async def head(self, url: str, **options: Any) -> Response:
        """Sends a HEAD. options are those of Request."""
        return await self.send(Request("HEAD", url, **options))

    async def post(self, url: str, **options: Any) -> Response:
        """Sends a POST. options are those of Request."""
        return await self.send(Request("POST", url, **options))

    async def put(self, url: str, **options: Any) -> Response:
        """Sends a PUT. options are those of Request."""
        return await self.send(Request("PUT", url, **options))

    async def patch(self, url: str, **options: Any) -> Response:
        """Sends a PATCH. options are those of Request."""
        return await self.send(Request("PATCH", url, **options))

    async def delete(self, url: str, **options: Any) -> Response:
        """Sends a DELETE. options are those of Request."""
        return await self.send(Request("DELETE", url, **options))

    async def request(self, method: str, url: str, **options: Any) -> Response:
        """Sends a request. options are those of Request."""
        return await self.send(Request(method, url, **options))

    async def send(self, request: Asked) -> Response:
        """Sends a request, or a GET of a URL, and waits for its response. Raises
        RequestError if there is no complete one. Canceling the task cancels the request."""
        wire = self._wire
        self._check()
        if wire.room <= 0 or self._unsent_size > UNSENT_MOST or self._queue:
            await self._turn()
        answer: asyncio.Future[Response] = self._loop.create_future()
        try:
            ident = wire.ask(request, partial(_settle, answer))
        except BaseException:
            self._pass_on()
            raise
        if ident == NOT_SENT:
            self._pass_on()
        else:
            self._flush_soon()
        try:
            response = await answer
        except asyncio.CancelledError:
            wire.cancel([ident])
            self._flush_soon()
            raise
        except EngineError:
            self._raised()
            raise
        if response._kind:
            error = response.error
            assert error is not None
            raise error
        return response

    async def _turn(self) -> None:
        """Waits for a place in the window, behind those who came before. It is
        to be taken at once, or to be passed on."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._queue[turn] = None
        try:
            await turn
        except BaseException:
            self._queue.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # given, and not taken
                self._wire.room += 1
                self._pass_on()
            if self._dead is not None:
                self._raised()
            raise
        self._wire.room += 1  # that _give_turns kept for us
        self._check()

    def stream(
        self, requests: Union[Iterable[Asked], AsyncIterable[Asked]], *, in_flight: Optional[int] = None
    ) -> AsyncGenerator[Response, None]:
        """Sends all requests (URLs, or Request objects) and yields responses as
        they complete: r.request is what they answer. A request that failed is a
        response with r.error. requests may be longer than memory; at most
        in_flight of them (default: max_in_flight) are taken and not yet yielded;
        with the bodies of their responses that is what a stream may hold. What
        the iterable raises ends the stream, and cancels what is in flight.

        A plain iterable is asked on the event loop: one that waits for
        something should be an async one.
        """
        check_stream(requests, in_flight)
        return self._stream(requests, in_flight)

    async def _stream(
        self, requests: Union[Iterable[Asked], AsyncIterable[Asked]], in_flight: Optional[int]
    ) -> AsyncGenerator[Response, None]:
        self._check()
        most = self._wire.window if in_flight is None else min(in_flight, self._wire.window)
        s = _Stream(self, requests, most)
        self._streams.add(s)
        take, share = s.ready.popleft, share_of(most)
        try:
            while True:
                if self._dead is None:
                    s.fill_or_give_room()
                n = min(len(s.ready), share)
                if n == 0:
                    if s.finished():
                        return
                    await s.wait()
                    continue
                for _ in range(n):
                    s.open -= 1
                    yield take()
        except EngineError:
            self._raised()
            raise
        finally:
            self._streams.discard(s)
            s.stop()
            if self._dead is None:
                self._wire.cancel_all_of(s.take)
                self._flush_soon()

    async def stats(self) -> Dict[str, Any]:
        """What the engine has counted since the client was opened."""
        self._check()
        answer: asyncio.Future[Dict[str, Any]] = self._loop.create_future()
        self._askers.append(answer)
        if len(self._askers) == 1:
            self._wire.ask_stats()
            self._flush_soon()
        try:
            return await answer
        except EngineError:
            self._raised()
            raise

    def _answer_stats(self, stats: Dict[str, Any]) -> None:
        for f in self._askers:
            if not f.done():
                f.set_result(stats)
        self._askers.clear()

    def _check(self) -> None:
        if self._dead is not None:
            self._raised()
            raise EngineError(self._dead)
        if self._connection is None:
            raise RuntimeError("use the Client in an async with statement")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("this Client belongs to another event loop: make one for each")

    # Descriptors.

    def _readable(self) -> None:
        assert self._connection is not None
        try:
            data = os.read(self._connection.read_fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # a socket's peer is gone
            data = b""
        if not data:
            self._died("")
            return
        if self._closing:
            return
        try:
            self._wire.feed(data)
        except EngineError as e:  # another version of the protocol
            self._died(str(e))
            return
        if self._started is not None and self._wire.ready:
            self._started.set_result(None)
            self._started = None
        self._pass_on()

    def _died(self, why: str) -> None:
        """The engine's output has ended."""
        assert self._connection is not None and self._ended is not None
        self._loop.remove_reader(self._connection.read_fd)
        if not self._ended.done():
            self._ended.set_result(None)
        if self._dead is not None:
            return
        self._stop_writing()
        how = self._connection.end()
        lost = self._wire.in_flight
        if self._wire.fatal:
            why = f"hotlap refused what this package sent (a bug in it): {self._wire.fatal}"
        self._fail((why or how) + (f" with {lost} requests in flight" if lost else ""))

    def _give_turns(self) -> None:
        while self._queue and self._wire.room > 0 and self._unsent_size <= UNSENT_MOST:
            f, _ = self._queue.popitem(last=False)
            if not f.done():
                f.set_result(None)
                self._wire.room -= 1

    def _pass_on(self) -> None:
        """There may be room in the window, or responses."""
        self._give_turns()
        for s in self._streams:
            s.wake_if_any()

    def _flush_soon(self) -> None:
        """Has all that is asked in this turn of the loop written at once."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._dead is not None or self._connection is None:
            return
        data = self._wire.output()
        if not data:
            return
        waiting = bool(self._unsent)
        self._unsent.append(memoryview(data))
        self._unsent_size += len(data)
        if not waiting:
            self._write()
            if self._unsent:
                self._loop.add_writer(self._connection.write_fd, self._writable)

    def _write(self) -> None:
        assert self._connection is not None
        while self._unsent:
            data = self._unsent[0]
            try:
                n = os.write(self._connection.write_fd, data)
            except BlockingIOError:
                return
            except OSError:  # it is gone: the end of its output says more
                self._unsent.clear()
                self._unsent_size = 0
                return
            self._unsent_size -= n
            if n < len(data):
                self._unsent[0] = data[n:]
            else:
                self._unsent.popleft()

    def _writable(self) -> None:
        assert self._connection is not None
        self._write()
        if not self._unsent:
            self._loop.remove_writer(self._connection.write_fd)
        if self._unsent_size <= UNSENT_MOST:
            self._give_turns()
            for s in self._streams:
                s.wake()

    def _stop_writing(self) -> None:
        assert self._connection is not None
        if self._unsent:
            self._loop.remove_writer(self._connection.write_fd)
            self._unsent.clear()


def _settle(answer: "asyncio.Future[Response]", response: Response) -> None:
    if not answer.done():  # its task may have been canceled in this turn
        answer.set_result(response)


def _end_all(futures: "Deque[asyncio.Future[Any]]", why: Optional[str]) -> None:
    """With an error, or, without a reason, by canceling them."""
    while futures:
        f = futures.popleft()
        if f.done():
            continue
        if why is None:
            f.cancel()
        else:
            f.set_exception(EngineError(why))


class _Stream:
    """What a call of stream has of the client."""

    def __init__(
        self, client: Client, requests: Union[Iterable[Asked], AsyncIterable[Asked]], most: int
    ) -> None:
        self.client = client
        self.most = most
        self.open = 0  # requests that were taken and whose responses were not yielded
        self.ready: Deque[Response] = deque()
        self.take = self.ready.append  # also says whose a response is
        self.source: Optional[Iterator[Asked]] = None  # None at its end, too
        self.puller: Optional[asyncio.Task[None]] = None
        self.waiter: Optional[asyncio.Future[None]] = None
        self.room_waiter: Optional[asyncio.Future[None]] = None
        if isinstance(requests, AsyncIterable):
            self.puller = client._loop.create_task(self._pull(requests))
        else:
            self.source = iter(requests)

    def room(self) -> int:
        if self.client._unsent_size > UNSENT_MOST:
            return 0
        return min(self.most - self.open, self.client._wire.room)

    def fill_or_give_room(self) -> None:
        if self.source is not None:
            self.fill()
        else:
            self.give_room()

    def fill(self) -> None:
        """Takes requests from a plain iterable, as there is room for them."""
        assert self.source is not None
        count, ended = self.client._wire.ask_from(self.source, min(self.room(), FILL), self.take)
        self.open += count
        if ended:
            self.source = None
        if count:
            self.client._flush()

    async def _pull(self, requests: AsyncIterable[Asked]) -> None:
        """Takes requests from an async iterable."""
        client = self.client
        try:
            async for asked in requests:
                while self.room() <= 0:
                    client._check()
                    self.room_waiter = client._loop.create_future()
                    await self.room_waiter
                ident = client._wire.ask(asked, self.take)
                self.open += 1
                if ident == NOT_SENT:
                    self.wake()
                else:
                    client._flush_soon()
        finally:
            self.wake()

    def finished(self) -> bool:
        """All was taken, and all was yielded. Raises what an async iterable raised."""
        if self.client._dead is not None:
            raise EngineError(self.client._dead)
        if self.puller is not None:
            if not self.puller.done():
                return False
            self.puller.result()
        return self.source is None and self.open == 0

    async def wait(self) -> None:
        """Waits until there may be something to do."""
        if self.source is not None and self.room() > 0:
            await asyncio.sleep(0)  # a slow iterable: let responses come in between
            return
        self.waiter = self.client._loop.create_future()
        await self.waiter

    def give_room(self) -> None:
        f = self.room_waiter
        if f is not None and not f.done() and self.room() > 0:
            f.set_result(None)

    def waiters(self) -> "Deque[asyncio.Future[None]]":
        return deque(f for f in (self.waiter, self.room_waiter) if f is not None and not f.done())

    def wake(self) -> None:
        for f in self.waiters():
            f.set_result(None)

    def wake_if_any(self) -> None:
        if self.ready or self.room() > 0:
            self.wake()

    def stop(self) -> None:
        puller, self.puller = self.puller, None  # it has us, too: then the iterable would stay until Python collects garbage
        if puller is not None and not puller.cancel() and not puller.cancelled():
            puller.exception()  # seen, or of no interest any more
