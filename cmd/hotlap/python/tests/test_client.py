import asyncio
import contextlib
import gc
import math
import os
import subprocess
import tempfile
import time
import unittest
import unittest.mock
from typing import Any, AsyncIterator, Dict, Iterator, List, Tuple, Union

import hotlap
from hotlap import Request
from hotlap._process import find_binary

from .support import PATIENCE, TestCase, run, target, urls


class RequestsTest(TestCase):
    def test_methods_and_bodies(self) -> None:
        async def main() -> None:
            async with hotlap.Client(headers={"X-Default": "d", "Accept": "text/plain"}) as c:
                for method in ("get", "post", "put", "patch", "delete"):
                    r = await getattr(c, method)(target() + "/echo", headers={"Accept": "a/b"}, content=b"\x00\xffbody")
                    echo = r.json()
                    self.assertEqual(echo["method"], method.upper())
                    self.assertEqual(echo["headers"]["x-default"], ["d"])
                    self.assertEqual(echo["headers"]["accept"], ["a/b"])
                r = await c.head(target() + "/echo")
                self.assertEqual((r.status_code, r.content), (200, b""))
                self.assertGreater(int(r.headers["Content-Length"]), 0)
                r = await c.request("OPTIONS", target() + "/echo", json=[1])
                self.assertEqual((r.json()["method"], r.json()["body"]), ("OPTIONS", "[1]"))
                self.assertEqual(r.json()["headers"]["accept"], ["text/plain"])
                r = await c.get(target() + "/bytes/3000000")
                self.assertEqual(len(r.content), 3_000_000)

        run(main())

    def test_errors_by_kind(self) -> None:
        async def main() -> None:
            async with hotlap.Client(timeout=2, connect_timeout=2, retries=0) as c:
                for url, kind, name in (
                    ("no url", hotlap.InvalidRequest, "invalid_request"),
                    (target() + "/delay/5000", hotlap.Timeout, "timeout"),
                    (target() + "/reset", hotlap.ConnectionClosed, "closed"),
                    ("http://127.0.0.1:1/", hotlap.ConnectError, "connect"),
                    ("http://no.such.host.invalid/", hotlap.DNSError, "dns"),
                ):
                    with self.assertRaises(kind) as caught:
                        await c.get(url)
                    self.assertEqual(caught.exception.kind, name)
                    self.assertEqual(caught.exception.request.url, url)
                    self.assertIn(name, str(caught.exception))
                with self.assertRaises(TimeoutError):
                    await c.get(target() + "/delay/5000", timeout=0.05)
                with self.assertRaises(hotlap.InvalidRequest) as bad:
                    await c.get("http://user:secret@[::")
                self.assertNotIn("secret", str(bad.exception))

        run(main())

    def test_concurrent(self) -> None:
        async def main() -> None:
            async with hotlap.Client(connections=8, pipeline="auto", max_in_flight=50) as c:
                answers = await asyncio.gather(*[c.get(u) for u in urls(1000)])
                self.assertEqual([r.text for r in answers], [f"/item/{i}" for i in range(1000)])
                stats = await c.stats()
                self.assertEqual((stats["requests"], stats["responses"], stats["errors"]), (1000, 1000, {}))
                self.assertLessEqual(stats["connects"], 8)
                both = await asyncio.gather(c.stats(), c.stats())
                self.assertEqual(both[0], both[1])

        run(main())

    def test_cancel_reaches_the_engine(self) -> None:
        async def main() -> None:
            async with hotlap.Client(connections=1, max_in_flight=2) as c:
                tasks = [asyncio.ensure_future(c.get(target() + "/delay/60000")) for _ in range(5)]
                while c.in_flight < 2:
                    await asyncio.sleep(0)
                for t in tasks:
                    t.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
                self.assertTrue(all(isinstance(d, asyncio.CancelledError) for d in done))
                # The connection and the window are free again.
                self.assertEqual((await c.get(target() + "/a")).text, "/a")
                stats = await c.stats()
                self.assertEqual((stats["errors"], stats["in_flight"], c.in_flight), ({"canceled": 2}, 0, 0))
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(c.get(target() + "/delay/60000"), 0.05)

        run(main())

    def test_those_who_gave_up_waiting_are_forgotten(self) -> None:
        async def main() -> None:
            async with hotlap.Client(max_in_flight=1) as c:
                slow = asyncio.ensure_future(c.get(target() + "/delay/60000"))
                while not c.in_flight:
                    await asyncio.sleep(0)
                waits = [asyncio.ensure_future(c.get(u)) for u in urls(100)]
                await asyncio.sleep(0)
                self.assertEqual(len(c._queue), 100)
                for w in waits[:99]:
                    w.cancel()
                await asyncio.sleep(0)
                self.assertEqual(len(c._queue), 1)
                slow.cancel()
                self.assertEqual((await waits[99]).text, "/item/99")

        run(main())

    def test_a_place_that_is_not_taken_is_passed_on(self) -> None:
        """There is one place. The next in line is canceled in the very turn that
        gave it the place, or has a request that cannot be sent: the one behind gets it."""

        async def main() -> None:
            async with hotlap.Client(max_in_flight=1) as c:
                give = c._give_turns
                for path in ("/b", "/\udc80"):
                    first, second, third = (asyncio.ensure_future(c.get(target() + p)) for p in ("/delay/20", path, "/c"))

                    def give_and_cancel() -> None:
                        give()
                        if path == "/b" and not c.in_flight:
                            second.cancel()

                    with unittest.mock.patch.object(c, "_give_turns", give_and_cancel):
                        ends = await asyncio.gather(first, second, third, return_exceptions=True)
                    self.assertIsInstance(ends[1], (asyncio.CancelledError, hotlap.InvalidRequest))
                    self.assertEqual([getattr(r, "status_code", None) for r in ends], [200, None, 200])
                async for r in c.stream(urls(2)):
                    self.assertIsNone(r.error)

        run(main())

    def test_tls(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ca = os.path.join(folder, "ca.pem")
            server = subprocess.Popen(
                [find_binary(), "serve", "-l", "127.0.0.1:0", "--tls", "--ca-out", ca], stderr=subprocess.PIPE, text=True
            )
            self.addCleanup(server.communicate)
            self.addCleanup(server.kill)
            assert server.stderr is not None
            secure = server.stderr.readline().split()[-1]

            async def main() -> None:
                trusts: List[Union[bool, str]] = [ca, False]
                for verify in trusts:
                    async with hotlap.Client(verify=verify) as c:
                        r = await c.get(secure + "/a")
                        self.assertEqual(r.text, "/a")
                        self.assertGreater(r.times.tls, 0)
                async with hotlap.Client() as c:
                    with self.assertRaises(hotlap.TLSError):
                        await c.get(secure + "/a")

            run(main())

    def test_bodies_are_cut_at_max_body(self) -> None:
        async def main() -> None:
            async with hotlap.Client(max_body=1000) as c:
                r = await c.get(target() + "/bytes/5000")
                self.assertEqual((len(r.content), r.body_bytes, r.truncated), (1000, 5000, True))

        run(main())

    def test_rate(self) -> None:
        async def main() -> None:
            async with hotlap.Client(rate=100) as c:
                started = time.monotonic()
                await asyncio.gather(*[c.get(u) for u in urls(31)])
                self.assertGreaterEqual(time.monotonic() - started, 0.29)

        run(main())


class LifeTest(TestCase):
    def test_use(self) -> None:
        async def main() -> None:
            c = hotlap.Client()
            with self.assertRaisesRegex(RuntimeError, "async with"):
                await c.get(target())
            async with c:
                pid = c.pid
                assert pid is not None
                os.kill(pid, 0)
            with self.assertRaisesRegex(hotlap.EngineError, "closed"):
                await c.get(target())
            with self.assertRaises(RuntimeError):
                async with c:
                    pass
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)

        run(main())

    def test_one_loop(self) -> None:
        async def other(c: hotlap.Client) -> None:
            with self.assertRaisesRegex(RuntimeError, "another event loop"):
                await c.get(target())

        async def main() -> None:
            async with hotlap.Client() as c:
                await asyncio.get_running_loop().run_in_executor(None, asyncio.run, other(c))
                self.assertEqual((await c.stats())["requests"], 0)
            await asyncio.get_running_loop().shutdown_default_executor()

        run(main())

    def test_close_ends_what_is_in_flight(self) -> None:
        async def main() -> None:
            async with hotlap.Client() as c:
                slow = asyncio.ensure_future(c.get(target() + "/delay/60000"))
                while not c.in_flight:
                    await asyncio.sleep(0)
            with self.assertRaisesRegex(hotlap.EngineError, "closed"):
                await slow

        started = time.monotonic()
        run(main())
        self.assertLess(time.monotonic() - started, PATIENCE / 2)

    def test_cannot_start(self) -> None:
        async def main(**options: Any) -> None:
            async with hotlap.Client(**options):
                self.fail("it started")

        bad: List[Tuple[Dict[str, Any], str]] = [
            ({"binary": "/no/such/hotlap"}, "no such program"),
            ({"binary": "false"}, "ended with exit code 1"),
            ({"connections": 0}, "0 is not in 1 to"),
            ({"flags": ("--no-such-flag",)}, "unknown flag"),
            ({"verify": "/no/such/file"}, "--cacert"),
            ({"socket": "/no/such/socket"}, "cannot connect"),
        ]
        for options, said in bad:
            with self.assertRaises(hotlap.EngineError) as caught:
                run(main(**options))
            self.assertIn(said, str(caught.exception))

    def test_passwords_are_not_on_the_command_line(self) -> None:
        async def main() -> None:
            async with hotlap.Client(proxy="http://u:secret@127.0.0.1:1", headers={"Authorization": "secret"}) as c:
                with open(f"/proc/{c.pid}/cmdline") as f:
                    self.assertNotIn("secret", f.read())
                for url in ("http://example.invalid/", target()):  # for all hosts, as any other proxy=
                    with self.assertRaises(hotlap.RequestError) as caught:
                        await c.get(url, timeout=5)
                    self.assertIn(caught.exception.kind, ("proxy", "connect"))

        run(main())


class StreamTest(TestCase):
    def test_iterables(self) -> None:
        async def source() -> AsyncIterator[str]:
            for i, u in enumerate(urls(3000)):
                if i % 1000 == 0:
                    await asyncio.sleep(0.01)
                yield u

        async def main() -> None:
            async with hotlap.Client(pipeline=16, max_in_flight=200) as c:
                for requests in (urls(3000), iter(urls(3000)), source(), [Request("GET", u, meta=u) for u in urls(3000)]):
                    seen = set()
                    async for r in c.stream(requests):  # type: ignore[arg-type]
                        self.assertEqual(target() + r.text, r.url)
                        self.assertIn(r.request.meta, (None, r.url))
                        seen.add(r.url)
                    self.assertEqual(seen, set(urls(3000)))
                async for r in c.stream([]):
                    self.fail("a response to nothing")
                self.assertEqual((await c.stats())["requests"], 12000)

        run(main())

    def test_a_failure_is_a_value(self) -> None:
        async def main() -> None:
            q = Request("PUT", target() + "/status/503", content="x", meta={"row": 7})
            async with hotlap.Client(retries=0) as c:
                got = {r.url: r async for r in c.stream(["no url", target() + "/reset", q, target() + "/a"])}
                self.assertIsInstance(got["no url"].error, hotlap.InvalidRequest)
                self.assertIsInstance(got[target() + "/reset"].error, hotlap.ConnectionClosed)
                self.assertIs(got[q.url].request, q)
                self.assertEqual((got[q.url].status_code, got[q.url].error), (503, None))
                self.assertEqual(got[target() + "/a"].text, "/a")
                with self.assertRaises(hotlap.InvalidRequest):
                    got["no url"].raise_for_status()

        run(main())

    def test_what_cannot_be_sent_is_a_value_too(self) -> None:
        base = target()
        bad: List[Union[str, Request]] = [
            base + "/\udc80", Request("GET", base, headers={"A": "1\r\nB: 2"}), Request("X" * 70000, base),
            Request("GET", base, headers={"A": "\udc80"}), Request("PUT", base, content=bytes(1 << 26)),
        ]  # fmt: skip

        async def pulled() -> AsyncIterator[Union[str, Request]]:
            for asked in [*bad, base + "/a"]:
                yield asked

        def check(r: hotlap.Response) -> bool:
            if r.error is None:
                return r.text == "/a"
            self.assertIsInstance(r.error, hotlap.InvalidRequest)
            self.assertIn("invalid_request (queue)", str(r.error).encode().decode())
            self.assertEqual((r.status_code, r.content, r.attempts, r.remote, len(r.headers)), (0, b"", 0, "", 0))
            self.assertLess(abs(r.start.timestamp() - time.time()), 60)
            return False

        async def main() -> None:
            async with hotlap.Client(max_in_flight=2) as c:
                for requests in ([*bad, base + "/a"], pulled()):
                    got = [check(r) async for r in c.stream(requests)]  # type: ignore[arg-type]
                    self.assertEqual((len(got), sum(got)), (6, 1))
                async for r in c.stream(bad[:1]):
                    check(r)
                for asked in bad:
                    with self.assertRaises(ValueError):
                        await c.send(asked)

        run(main())
        got = [check(r) for r in hotlap.fetch([*bad, base + "/a"], in_flight=1)]
        self.assertEqual((len(got), sum(got)), (6, 1))

    def test_mistakes_raise(self) -> None:
        mistakes: List[Any] = [
            b"http://a/", 5, None, Request("GET", "http://a/", headers={"A": 5}),  # type: ignore[arg-type]
            Request("GET", "http://a/", headers={"A": b"b"}), Request("GET", "http://a/", headers={b"A": "b"}),  # type: ignore[arg-type]
        ]  # fmt: skip
        later = Request("PUT", "http://a/")
        later.content = [1]  # type: ignore[assignment]

        async def main() -> None:
            async with hotlap.Client() as c:
                for one in (target(), b"x", Request("GET", target())):
                    with self.assertRaisesRegex(TypeError, "put it into a list"):
                        c.stream(one)  # type: ignore[arg-type]
                    with self.assertRaisesRegex(TypeError, "put it into a list"):
                        hotlap.fetch(one)  # type: ignore[arg-type]
                for mistake in [*mistakes, later]:
                    with self.assertRaisesRegex(TypeError, "want|neither"):
                        await c.send(mistake)
                    with self.assertRaisesRegex(TypeError, "want|neither"):
                        async for r in c.stream([mistake]):
                            pass
                self.assertEqual((await c.get(target() + "/a")).text, "/a")

        run(main())

    def test_bounded_with_a_reader_that_sleeps(self) -> None:
        taken = 0

        def source() -> Iterator[str]:
            nonlocal taken
            for u in urls(400):
                taken += 1
                yield u

        async def pulled() -> AsyncIterator[str]:
            for u in source():
                yield u

        async def main() -> None:
            nonlocal taken
            async with hotlap.Client(max_in_flight=64) as c:
                for in_flight, requests in ((None, source()), (10, source()), (10, pulled())):
                    taken = yielded = 0
                    async for r in c.stream(requests, in_flight=in_flight):  # type: ignore[arg-type]
                        yielded += 1
                        if yielded % 50 == 1:
                            await asyncio.sleep(0.02)
                            bound = in_flight or 64
                            self.assertLessEqual(taken - yielded, bound + 1)  # an async iterable is asked one ahead
                            self.assertLessEqual(c.in_flight, bound)
                    self.assertEqual(yielded, 400)

        run(main())

    def test_requests_inside_a_stream(self) -> None:
        async def main() -> None:
            async with hotlap.Client(max_in_flight=10) as c:
                n = 0
                async for r in c.stream(urls(100)):
                    self.assertEqual((await c.get(r.url + "?again")).text, r.text + "?again")
                    n += 1
                self.assertEqual(n, 100)
                a, b = c.stream(urls(100, "/a/")), c.stream(urls(100, "/b/"))
                for _ in range(100):
                    self.assertTrue((await a.__anext__()).text.startswith("/a/"))
                    self.assertTrue((await b.__anext__()).text.startswith("/b/"))
                await a.aclose()
                await b.aclose()

        run(main())

    def test_leaving_cancels(self) -> None:
        async def main() -> None:
            async with hotlap.Client(connections=4, max_in_flight=8) as c:
                stream = c.stream([target() + "/a"] + [target() + "/delay/60000"] * 20)
                async for r in stream:
                    break
                del stream  # Python closes a generator that nobody has any more
                self.assertEqual((await c.get(target() + "/b")).text, "/b")
                while c.in_flight:
                    await c.stats()
                self.assertEqual((await c.stats())["errors"], {"canceled": 7})  # 8 were taken, one is answered

        run(main())

    def test_leaving_lets_go_of_the_iterable(self) -> None:
        closed = []

        def source() -> Iterator[str]:
            try:
                yield from urls(100)
            finally:
                closed.append("plain")

        async def pulled() -> AsyncIterator[str]:
            try:
                for u in urls(100):
                    yield u
            finally:
                closed.append("async")

        async def main() -> None:
            async with hotlap.Client() as c:
                for requests in (source(), pulled()):
                    async for r in c.stream(requests, in_flight=4):  # type: ignore[arg-type]
                        break
                del requests
                for _ in range(10):
                    await asyncio.sleep(0)  # Python closes generators in tasks
                self.assertEqual(closed, ["plain", "async"])

        gc.disable()
        self.addCleanup(gc.enable)
        run(main())

    def test_errors_of_the_iterable(self) -> None:
        def source() -> Iterator[str]:
            yield target() + "/a"
            raise KeyError("mine")

        async def pulled() -> AsyncIterator[str]:
            yield target() + "/a"
            raise KeyError("mine")

        async def main() -> None:
            async with hotlap.Client() as c:
                for requests in (source(), pulled()):
                    with self.assertRaisesRegex(KeyError, "mine"):
                        async for r in c.stream(requests):  # type: ignore[arg-type]
                            pass
                with self.assertRaises(ValueError):
                    c.stream([], in_flight=0)
                with self.assertRaises((TypeError, AttributeError)):
                    async for r in c.stream([1]):  # type: ignore[list-item]
                        pass
                self.assertEqual((await c.get(target() + "/b")).text, "/b")

        run(main())

    def test_slow_iterables_do_not_hold_back(self) -> None:
        gave = 0

        def source() -> Iterator[str]:
            nonlocal gave
            for u in urls(100):
                gave += 1
                yield u
                time.sleep(0.2)

        async def main() -> None:
            async with hotlap.Client() as c:
                async for r in c.stream(source()):
                    self.assertLess(gave, 50)
                    break

        run(main())

    def test_large_bodies(self) -> None:
        body = bytes(range(256)) * (8 << 10)

        async def main() -> None:
            async with hotlap.Client(connections=4, max_in_flight=40) as c:
                n = 0
                async for r in c.stream(Request("PUT", target() + "/bytes/2000000", content=body) for _ in range(40)):
                    self.assertIsNone(r.error)
                    self.assertEqual(len(r.content), 2_000_000)
                    n += 1
                self.assertEqual(n, 40)

        run(main())


class FetchTest(TestCase):
    def test_fetch(self) -> None:
        seen = {r.url for r in hotlap.fetch(urls(5000), connections=16, pipeline=8) if r.text == r.url[len(target()) :]}
        self.assertEqual(seen, set(urls(5000)))
        self.assertEqual(list(hotlap.fetch([])), [])

    def test_bounded(self) -> None:
        taken = 0

        def source() -> Iterator[str]:
            nonlocal taken
            for u in urls(300):
                taken += 1
                yield u

        for n, r in enumerate(hotlap.fetch(source(), in_flight=10, headers={"X": "1"})):
            if n % 50 == 0:
                time.sleep(0.01)
                self.assertLessEqual(taken - n, 11)
        self.assertEqual(n, 299)

    def test_left_early(self) -> None:
        for r in hotlap.fetch([target() + "/a"] + [target() + "/delay/60000"] * 10):
            self.assertEqual(r.text, "/a")
            break
        with contextlib.closing(hotlap.fetch(urls(100))) as answers:
            self.assertIsNone(next(answers).error)

    def test_large_bodies(self) -> None:
        body = b"x" * (2 << 20)
        got = [r.status_code for r in hotlap.fetch(Request("PUT", target() + "/bytes/500000", content=body) for _ in range(20))]
        self.assertEqual(got, [200] * 20)

    def test_errors(self) -> None:
        (r,) = hotlap.fetch(["http://127.0.0.1:1/"], retries=0, timeout=math.inf)
        self.assertIsInstance(r.error, hotlap.ConnectError)
        with self.assertRaises(TypeError):
            hotlap.fetch([], no_such_option=1)
        with self.assertRaisesRegex(TypeError, "flags is a str"):
            hotlap.fetch([], flags="-k")
        with self.assertRaisesRegex(hotlap.EngineError, "unknown flag"):
            list(hotlap.fetch([], flags=("--no-such-flag",)))


if __name__ == "__main__":
    unittest.main()
