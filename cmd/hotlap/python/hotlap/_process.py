"""The co-process: finding it, starting it, ending it."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import weakref
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._errors import EngineError, as_died

_PIPE_SIZE = 1 << 20  # pipe(7): what an unprivileged user may ask for
_F_SETPIPE_SZ = 1031  # fcntl has it from Python 3.10 on
_EXIT_PATIENCE = 5.0  # seconds for a process whose output has ended to be gone
_NEVER = "10000h"
_STALL_TIMEOUT = _NEVER  # we read while we write: an engine that waits for us waits for the application
_STDERR_SHOWN = 2000  # bytes of what it said that go into an error


def find_binary(binary: Union[str, "os.PathLike[str]", None] = None) -> str:
    """Where hotlap is: the argument, HOTLAP_BIN, beside this package (a wheel
    carries it), PATH. The first that says something counts."""
    named = os.fspath(binary) if binary is not None else os.environ.get("HOTLAP_BIN", "")
    if named:
        found = shutil.which(named)
        if found is None:
            said = "binary=" if binary is not None else "HOTLAP_BIN="
            raise EngineError(f"{said}{named}: no such program, or it may not be executed")
        return found
    carried = os.path.join(os.path.dirname(__file__), "bin", "hotlap")
    found = shutil.which(carried) or shutil.which("hotlap")
    if found is None:
        raise EngineError(
            "the hotlap program was not found: give binary=, set HOTLAP_BIN, or put it into PATH"
            " (make build makes it in the root of its repository)"
        )
    return found


class Options:
    """What a client is made with, as command line and environment."""

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
        verify: Union[bool, str] = True,
        cert: Union[str, Tuple[str, str], None] = None,
        proxy: Optional[str] = None,
        max_body: Optional[int] = None,
        max_memory: Optional[int] = None,
        max_in_flight: Optional[int] = None,
        flags: Sequence[str] = (),
    ) -> None:
        if isinstance(flags, str):
            raise TypeError(f"flags is a str, want a sequence of them, such as ({flags!r},)")
        self.flags: List[str] = []
        self.environment: Dict[str, str] = {}
        add = self._add
        add("--connections", connections)
        add("--per-host", connections if per_host is None else per_host)
        add("--pipeline", pipeline)
        add("--loops", loops)
        add("--rate", rate)
        add("--host-rate", host_rate)
        for name, seconds in (
            ("--timeout", timeout),
            ("--connect-timeout", connect_timeout),
            ("--read-timeout", read_timeout),
        ):
            add(name, None if seconds is None else _NEVER if seconds == math.inf else f"{seconds:.6f}s")
        add("--retries", retries)
        if verify is False:
            self.flags.append("--insecure")
        elif verify is not True:
            add("--cacert", verify)
        if cert is not None:
            for name, path in zip(("--cert", "--key"), (cert,) if isinstance(cert, str) else cert):
                add(name, path)
        self._set_proxy(proxy)
        add("--max-body", max_body)
        add("--max-memory", max_memory)
        add("--window", max_in_flight)
        self.flags += flags

    def _add(self, name: str, value: Any) -> None:
        if value is not None:
            self.flags.append(f"{name}={value}")

    def _set_proxy(self, proxy: Optional[str]) -> None:
        """A proxy that has a password goes through the environment: others can
        read the command line of a process."""
        if proxy is not None and "@" in proxy:
            self.environment = {"HOTLAP_PROXY": proxy}
        else:
            self._add("--proxy", proxy)


class Connection:
    """Two descriptors, which do not block, to an engine: a co-process, or one
    that listens on a socket."""

    def __init__(self, read_fd: int, write_fd: int, closers: List[Any]) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._closers = closers  # of both, the writing side first
        self._forked = False
        _connections.add(self)
        for fd in {read_fd, write_fd}:
            os.set_blocking(fd, False)

    def end_input(self) -> None:
        """Says that no more requests will come."""
        raise NotImplementedError

    def end(self, patience: float = _EXIT_PATIENCE) -> str:
        """Closes both sides and leaves nothing behind. Says how it ended."""
        raise NotImplementedError

    def forget(self, null: int) -> None:
        """In a child by fork: what is the parent's becomes /dev/null. An input
        that a child holds open would never end, and answers are not its to read."""
        self._forked = True
        for c in self._closers:
            try:
                os.dup2(null, c.fileno(), inheritable=False)
            except (ValueError, OSError):  # it was closed before
                pass

    def _close(self) -> None:
        for c in self._closers:
            try:
                c.close()
            except OSError:  # a flush to a reader that is gone
                pass


_connections: "weakref.WeakSet[Connection]" = weakref.WeakSet()
_FORKED = "this process was forked: the engine is its parent's, open another here"


def _forget_all() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for c in list(_connections):
        c.forget(null)
    os.close(null)


os.register_at_fork(after_in_child=_forget_all)


class Process(Connection):
    """hotlap pipe, started by us."""

    def __init__(self, binary: str, options: Options) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        argv = [binary, "pipe", f"--parent={os.getpid()}", f"--stall-timeout={_STALL_TIMEOUT}", *options.flags]
        environment: Optional[Mapping[str, str]] = None
        if options.environment:
            environment = {**os.environ, **options.environment}
        try:
            self._process = subprocess.Popen(
                argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment
            )
        except OSError as e:
            self._stderr.close()
            raise EngineError(f"cannot start {binary}: {e}") from e
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        super().__init__(stdout.fileno(), stdin.fileno(), [stdin, stdout, self._stderr])
        for fd in (self.read_fd, self.write_fd):
            try:
                fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_SIZE)
            except OSError:  # the user has used up what pipes may have: the usual size works, too
                pass

    @property
    def pid(self) -> int:
        return self._process.pid

    def forget(self, null: int) -> None:
        super().forget(null)
        self._process.returncode = 0  # not ours to wait for

    def end_input(self) -> None:
        self._closers[0].close()

    def end(self, patience: float = _EXIT_PATIENCE) -> str:
        if self._stderr.closed:
            return "it has ended"
        if self._forked:
            self._close()
            return _FORKED
        for c in self._closers[:2]:
            c.close()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        said = os.pread(self._stderr.fileno(), _STDERR_SHOWN, 0).decode("utf-8", "replace").strip()
        self._close()
        return str(as_died(f"hotlap (process {self.pid}) {_how(code)}", said or None))


def _how(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}"
    return f"ended with exit code {code}"


class Socket(Connection):
    """A hotlap pipe --listen that others have started."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as e:
            self._socket.close()
            raise EngineError(f"cannot connect to hotlap at {path}: {e}") from e
        self._path = path
        super().__init__(self._socket.fileno(), self._socket.fileno(), [self._socket])

    def end_input(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone
            pass

    def end(self, patience: float = _EXIT_PATIENCE) -> str:
        self._close()
        if self._forked:
            return _FORKED
        return f"hotlap at {self._path} has closed the connection"
