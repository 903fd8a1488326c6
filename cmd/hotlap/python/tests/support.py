"""What the tests share: a target server, and how to run them against it.

HOTLAP_BIN says where hotlap is; make test sets it.
"""

import asyncio
import atexit
import os
import subprocess
import sys
import threading
import unittest
from typing import Any, Coroutine, List, Optional, Set, Tuple, TypeVar

from hotlap._process import find_binary

T = TypeVar("T")

PATIENCE = 60.0  # seconds for what must come
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_server: Optional["subprocess.Popen[bytes]"] = None
_base = ""


def target() -> str:
    """The URL of a target server, which is started when it is first asked for,
    and ends with this process."""
    global _server, _base
    if _server is None:
        _server = subprocess.Popen(
            [find_binary(), "serve", "-l", "127.0.0.1:0", "--with-parent"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        atexit.register(_end_server)
        assert _server.stderr is not None
        line = _server.stderr.readline().decode()
        assert line.startswith("listening on "), line
        _base = line.split()[-1]
    return _base


def _end_server() -> None:
    assert _server is not None
    _server.communicate()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, with an end."""
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


def children() -> Set[int]:
    """The children of this process that still run, the target server left out."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as f:
                found |= {int(pid) for pid in f.read().split()}
        except FileNotFoundError:  # a thread that has ended meanwhile
            pass
    if _server is not None:
        found.discard(_server.pid)
    return found


class TestCase(unittest.TestCase):
    """A test that leaves no process, no thread and no descriptor behind."""

    def setUp(self) -> None:
        target()
        before = (children(), threading.active_count(), descriptors())
        self.addCleanup(self._same, before)  # the first of the cleanups, so the last to be done

    def _same(self, before: Tuple[Set[int], int, int]) -> None:
        self.assertEqual(before, (children(), threading.active_count(), descriptors()))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def python(code: str, *args: str, **kwargs: Any) -> "subprocess.Popen[str]":
    """Another Python that runs code, with this package."""
    return subprocess.Popen([sys.executable, "-c", code, *args], env=environment(), text=True, **kwargs)


def environment() -> "dict[str, str]":
    return {**os.environ, "PYTHONPATH": PACKAGE, "HOTLAP_BIN": find_binary()}


def urls(n: int, path: str = "/item/") -> List[str]:
    return [f"{target()}{path}{i}" for i in range(n)]
