"""One Python process against nginx: how many requests per second.

    make headline, or: python3 headline.py [--requests N] [--rounds N] [CONTENDER...]

nginx, the Python process and the engine share the CPUs of this machine. Every
request has a URL of its own, the answer is that URL's path, and each is
compared in Python. Contenders take turns, with 64 connections each; what counts
is the ratio within a round. aiohttp and pycurl are those of Debian, used as their documents say.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any, Callable, Coroutine, Dict, List, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import hotlap  # noqa: E402

CONNECTIONS = 64
TICKS = os.sysconf("SC_CLK_TCK")

NGINX = """
daemon off; master_process off; worker_processes 1;
pid {dir}/pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "$request_uri"; }} }}
}}
"""


class Wrong(Exception):
    """An answer that is not the one to its request."""


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


# The contenders: each sends n requests, checks each answer, and returns the
# seconds and the CPU seconds of the engine.

Outcome = Tuple[float, float]


async def hotlap_stream(base: str, n: int, pipeline: Any = 64) -> Outcome:
    async with hotlap.Client(connections=CONNECTIONS, pipeline=pipeline) as client:
        start, count, skip = time.perf_counter(), 0, len(base)
        async for r in client.stream(f"{base}/item/{i}" for i in range(n)):
            if r.status_code != 200 or r.content != r.url[skip:].encode():
                raise Wrong(r.url)
            count += 1
        return finish(client, start, count, n)


async def hotlap_stream_auto(base: str, n: int) -> Outcome:
    return await hotlap_stream(base, n, "auto")


async def hotlap_stream_depth_1(base: str, n: int) -> Outcome:
    return await hotlap_stream(base, n, 1)


async def hotlap_get(base: str, n: int) -> Outcome:
    """A thousand tasks, each of which awaits one answer after the other."""
    async with hotlap.Client(connections=CONNECTIONS, pipeline=64) as client:
        numbers, count = iter(range(n)), 0

        async def work() -> None:
            nonlocal count
            for i in numbers:
                r = await client.get(f"{base}/item/{i}")
                if r.status_code != 200 or r.content != b"/item/%d" % i:
                    raise Wrong(r.url)
                count += 1

        start = time.perf_counter()
        await asyncio.gather(*[work() for _ in range(1000)])
        return finish(client, start, count, n)


def finish(client: hotlap.Client, start: float, count: int, n: int) -> Outcome:
    seconds = time.perf_counter() - start
    if count != n:
        raise Wrong(f"{count} answers to {n} requests")
    assert client.pid is not None
    return seconds, cpu_seconds(client.pid)


async def aiohttp_get(base: str, n: int) -> Outcome:
    aiohttp: Any = importlib.import_module("aiohttp")
    numbers, count = iter(range(n)), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def work() -> None:
            nonlocal count
            for i in numbers:
                async with session.get(f"{base}/item/{i}") as r:
                    if r.status != 200 or await r.read() != b"/item/%d" % i:
                        raise Wrong(i)
                count += 1

        start = time.perf_counter()
        await asyncio.gather(*[work() for _ in range(CONNECTIONS)])
        seconds = time.perf_counter() - start
    if count != n:
        raise Wrong(f"{count} answers to {n} requests")
    return seconds, 0.0


async def pycurl_multi(base: str, n: int) -> Outcome:
    """The multi interface, handles used again: a loop of its own, not asyncio."""
    pycurl: Any = importlib.import_module("pycurl")
    multi = pycurl.CurlMulti()
    numbers, count = iter(range(n)), 0

    def begin(handle: Any) -> bool:
        i = next(numbers, None)
        if i is None:
            return False
        handle.number, handle.parts = i, []
        handle.setopt(pycurl.URL, f"{base}/item/{i}")
        handle.setopt(pycurl.WRITEFUNCTION, handle.parts.append)
        multi.add_handle(handle)
        return True

    start = time.perf_counter()
    open_handles = sum(begin(pycurl.Curl()) for _ in range(CONNECTIONS))
    kept = []
    while open_handles:
        while multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            pass
        _, done, failed = multi.info_read()
        if failed:
            raise Wrong(failed[0])
        for handle in done:
            if handle.getinfo(pycurl.RESPONSE_CODE) != 200 or b"".join(handle.parts) != b"/item/%d" % handle.number:
                raise Wrong(handle.number)
            count += 1
            multi.remove_handle(handle)
            if not begin(handle):
                open_handles -= 1
                kept.append(handle)
        if not done:
            multi.select(1.0)
    if count != n:
        raise Wrong(f"{count} answers to {n} requests")
    return time.perf_counter() - start, 0.0


Contender = Callable[[str, int], Coroutine[Any, Any, Outcome]]

# With the part of the requests that each sends: the slow ones fewer. Those that
# are modules of others have their names.
CONTENDERS: Dict[str, Tuple[Contender, float, str]] = {
    "stream": (hotlap_stream, 1.0, "hotlap, client.stream(urls), pipeline=64"),
    "stream-auto": (hotlap_stream_auto, 0.3, 'hotlap, client.stream(urls), pipeline="auto"'),
    "stream-depth-1": (hotlap_stream_depth_1, 0.3, "hotlap, client.stream(urls), pipeline=1"),
    "get": (hotlap_get, 0.2, "hotlap, await client.get(url) in 1000 tasks"),
    "pycurl": (pycurl_multi, 0.1, "pycurl, CurlMulti, 64 handles used again"),
    "aiohttp": (aiohttp_get, 0.03, "aiohttp, session.get(url) in 64 tasks"),
}


def worker(name: str, base: str, n: int) -> None:
    """One contender, in a process of its own: prints what it took."""
    before = time.process_time()
    seconds, engine = asyncio.run(CONTENDERS[name][0](base, n))
    print(
        json.dumps(
            {
                "seconds": seconds,
                "python": time.process_time() - before,
                "engine": engine,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


class Nginx:
    """An nginx with one worker, as long as the with statement."""

    def __enter__(self) -> Nginx:
        found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
        if found is None:
            sys.exit("headline needs nginx: install it")
        self._dir = tempfile.TemporaryDirectory()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        conf = os.path.join(self._dir.name, "nginx.conf")
        with open(conf, "w") as f:
            f.write(NGINX.format(dir=self._dir.name, port=port))
        self._process = subprocess.Popen([found, "-p", self._dir.name, "-c", conf, "-e", "stderr"])
        self.base = f"http://127.0.0.1:{port}"
        self._await_listener(port)
        return self

    def _await_listener(self, port: int) -> None:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)
        self.__exit__()
        sys.exit("nginx does not listen")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._dir.cleanup()

    @property
    def cpu(self) -> float:
        return cpu_seconds(self._process.pid)


def lap(name: str, nginx: Nginx, n: int) -> Dict[str, float]:
    """One run of a contender: requests per second, and CPU us per request."""
    before = nginx.cpu
    out = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--worker", name, nginx.base, str(n)], stdout=subprocess.PIPE, check=True
    )
    took = json.loads(out.stdout)
    us = 1e6 / n
    return {
        "rate": n / took["seconds"],
        "python": took["python"] * us,
        "engine": took["engine"] * us,
        "server": (nginx.cpu - before) * us,
        "peak": took["peak_mb"],
    }


def report(laps: Dict[str, List[Dict[str, float]]], counts: Dict[str, int]) -> str:
    lines = [
        f"{'':48}{'requests':>10}{'per second':>12}{'(range)':>18}{'python':>9}{'engine':>9}{'nginx':>9}{'peak':>8}",
        f"{'':48}{'':>10}{'':>12}{'':>18}{'us':>9}{'us':>9}{'us':>9}{'MB':>8}",
    ]
    for name, runs in laps.items():
        mid = {key: median(r[key] for r in runs) for key in runs[0]}
        spread = f"{min(r['rate'] for r in runs):,.0f}-{max(r['rate'] for r in runs):,.0f}"
        lines.append(
            f"{CONTENDERS[name][2]:48}{counts[name]:>10,}{mid['rate']:>12,.0f}{spread:>18}"
            f"{mid['python']:>9.2f}{mid['engine']:>9.2f}{mid['server']:>9.2f}{mid['peak']:>8.0f}"
        )
    if "stream" in laps:
        for other in laps:
            if other != "stream":
                ratios = [a["rate"] / b["rate"] for a, b in zip(laps["stream"], laps[other])]
                lines.append(f"stream is {median(ratios):.1f} times {other} ({min(ratios):.1f}-{max(ratios):.1f})")
    return "\n".join(lines)


def main(args: List[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="of stream; the others send a part of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("contender", nargs="*", help=", ".join(CONTENDERS))
    options = parser.parse_args(args)
    if options.worker:
        name, base, n = options.contender
        worker(name, base, int(n))
        return
    names = options.contender or list(CONTENDERS)
    for name in names:
        if name not in CONTENDERS:
            parser.error(f"{name!r} is not one of {', '.join(CONTENDERS)}")
    for name in ("pycurl", "aiohttp"):
        if name in names and importlib.util.find_spec(name) is None:
            print(f"{name} is left out: {sys.executable} does not have it (Debian: python3-{name})", file=sys.stderr)
            names.remove(name)
    counts = {name: max(1000, int(options.requests * CONTENDERS[name][1])) for name in names}
    laps: Dict[str, List[Dict[str, float]]] = {name: [] for name in names}
    with Nginx() as nginx:
        for round_number in range(options.rounds):
            for name in names:
                laps[name].append(lap(name, nginx, counts[name]))
                print(f"round {round_number + 1}: {name} {laps[name][-1]['rate']:,.0f}/s", file=sys.stderr)
    print(f"{os.cpu_count()} CPUs, shared by nginx, Python and the engine; every body was checked")
    print(report(laps, counts))


if __name__ == "__main__":
    main(sys.argv[1:])
