"""Ends of every kind: no process stays behind, nothing hangs, one clear error.

HOTLAP_KILLS is how many processes are killed at random moments (12), half of
them engines, half of them Pythons. HOTLAP_SEED repeats a run.
"""

import asyncio
import gc
import os
import random
import select
import signal
import subprocess
import sys
import time
import unittest
import weakref
from typing import Callable, Iterator, Tuple

import hotlap
from hotlap._client import END_SECONDS
from hotlap._process import find_binary

from .support import PATIENCE, TestCase, python, run, target, urls

KILLS = int(os.environ.get("HOTLAP_KILLS", "12"))
SEED = int(os.environ.get("HOTLAP_SEED", random.randrange(1 << 32)))

# Streams without end, with slow requests among them, and says who the engine is.
ENDLESS = """
import asyncio, itertools, os, sys, hotlap
base = sys.argv[1]
def requests():
    for i in itertools.count():
        yield base + ("/delay/60000" if i % 100 == 0 else f"/item/{i}")
async def main():
    async with hotlap.Client(connections=8, pipeline=4, max_in_flight=500) as c:
        print(c.pid, flush=True)
        async for r in c.stream(requests()):
            pass
"""
ENDLESS_ASYNC = ENDLESS + "asyncio.run(main())\n"
ENDLESS_BLOCKING = ENDLESS + """
import hotlap._process
class Told(hotlap._process.Process):
    def __init__(self, *args):
        super().__init__(*args)
        print(self.pid, flush=True)
hotlap._fetch.Process = Told
for r in hotlap.fetch(requests(), connections=8):
    pass
"""
# Tasks of every kind, none of which anybody awaits.
BACKGROUND = ENDLESS.replace(
    "        print(c.pid",
    """        async def pulled():
            for url in requests():
                yield url
        async def stream(urls):
            async for r in c.stream(urls):
                pass
        tasks = [asyncio.ensure_future(stream([base + "/delay/60000"] * 9)), asyncio.ensure_future(stream(pulled()))]
        tasks += [asyncio.ensure_future(c.get(base + "/delay/60000")) for _ in range(600)]
        await asyncio.sleep(0)
        print(c.pid""",
) + "asyncio.run(main())\n"
# Tasks that nobody awaits, directly and through others, beside what main does.
UNAWAITED = """
import asyncio, os, signal, sys, hotlap
slow = sys.argv[1] + "/delay/60000"
async def main():
    async with hotlap.Client(connections=8, max_in_flight=50) as c:
        async def stream(urls):
            async for r in c.stream(urls):
                pass
        async def pulled():
            while True:
                yield slow
        tasks = [asyncio.ensure_future(t) for t in (stream([slow] * 9), stream(pulled()), c.stats())]
        tasks += [asyncio.ensure_future(c.get(slow)) for _ in range(60)]
        tasks += [asyncio.ensure_future(asyncio.wait_for(c.get(slow), 600)) for _ in range(60)]
        await asyncio.sleep(0)
        def kill():
            os.kill(c.pid, signal.SIGKILL)
        {}
asyncio.run(main())
"""
ANSWERED = ENDLESS.replace("/delay/60000", "/delay/1") + """
answers = hotlap.fetch(requests(), connections=8)
next(answers)
with open(f"/proc/self/task/{os.getpid()}/children") as f:
    print(f.read(), flush=True)
for r in answers:
    pass
"""
FORKED = """
import os, time
if os.fork() == 0:
    os.close(1)
    time.sleep(600)
"""


class Watched:
    """Another Python with its engine, whose end can be waited for."""

    def __init__(self, test: unittest.TestCase, code: str) -> None:
        self.test = test
        self.python = python(
            code, target(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self.python.stdout is not None
        line = self.python.stdout.readline()
        if not line:
            test.fail(self.python.communicate()[1])
        self.engine = int(line)
        self.engine_fd = os.pidfd_open(self.engine)
        test.addCleanup(os.close, self.engine_fd)

    def engine_ends(self) -> None:
        poll = select.poll()
        poll.register(self.engine_fd, select.POLLIN)
        if not poll.poll(PATIENCE * 1000):
            os.kill(self.engine, signal.SIGKILL)
            self.test.fail("the engine stays behind")

    def said(self) -> str:
        """What it wrote to standard error until its end."""
        try:
            return self.python.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            os.killpg(self.python.pid, signal.SIGKILL)
            self.python.communicate()
            self.test.fail("Python hangs")


class KillTest(TestCase):
    def test_kill_the_engine(self) -> None:
        rng = random.Random(SEED)
        for i in range(KILLS // 2):
            with self.subTest(seed=SEED, kill=i):
                seconds = rng.random() ** 2 * 0.2
                killed, errors = run(self.killed_after(seconds))
                self.assertEqual(errors, 20)
                self.assertIn("was killed by SIGKILL", killed)

    async def killed_after(self, seconds: float) -> Tuple[str, int]:
        """What the stream raised, and how many of twenty slow requests did."""
        errors = 0
        async with hotlap.Client(connections=32, max_in_flight=500) as c:
            slow = [asyncio.ensure_future(c.get(target() + "/delay/60000")) for _ in range(20)]
            assert c.pid is not None
            asyncio.get_running_loop().call_later(seconds, os.kill, c.pid, signal.SIGKILL)
            try:
                async for r in c.stream(endless()):
                    self.assertIsNone(r.error)
                self.fail("the stream ended")
            except hotlap.EngineError as e:
                message = str(e)
            for r in await asyncio.gather(*slow, return_exceptions=True):
                errors += isinstance(r, hotlap.EngineError)
            with self.assertRaises(hotlap.EngineError):
                await c.get(target())
        return message, errors

    def test_tasks_that_nobody_awaits(self) -> None:
        """One error, for whoever awaits; one from asyncio if there is nobody."""
        get = "kill(); await c.get(slow)"
        caught = get.join(("try: ", "\n        except hotlap.EngineError: pass"))
        everyone = "kill(); await asyncio.gather(*tasks, return_exceptions=True)"
        nobody, leave = "kill(); await asyncio.wait(tasks)", "pass"
        one_by_one = "kill()\n        for t in tasks:\n            try: await t\n            except hotlap.EngineError: pass"
        for code, raised, left in (
            (get, 1, 0), ("kill(); await asyncio.gather(*tasks)", 1, 0), ("kill(); await stream([slow])", 1, 0),
            ("raise ValueError", 1, 0), (caught, 0, 0), (everyone, 0, 0), (one_by_one, 0, 0), (nobody, 0, 1), (leave, 0, 1),
        ):  # fmt: skip
            with self.subTest(main=code):
                process = python(UNAWAITED.replace("{}", code), target(), stderr=subprocess.PIPE)
                said = process.communicate(timeout=PATIENCE)[1]
                self.assertEqual((said.count("Traceback"), said.count("never retrieved")), (raised + left, left), said)
                self.assertNotIn("unhandled", said)
                self.assertEqual(process.returncode, raised)

    def test_a_client_that_is_left_is_forgotten(self) -> None:
        async def main() -> None:
            clients = []
            for kill in (False, True):
                async with hotlap.Client() as c:
                    clients.append(weakref.ref(c))
                    lost = asyncio.ensure_future(c.get(target() + "/delay/60000"))
                    while not c.in_flight:
                        await asyncio.sleep(0)
                    if kill:
                        assert c.pid is not None
                        os.kill(c.pid, signal.SIGKILL)
                        await asyncio.wait([lost])
                with self.assertRaises(hotlap.EngineError):
                    await lost
                del c, lost
            gc.collect()
            self.assertEqual([c() for c in clients], [None, None])

        run(main())

    def test_kill_python(self) -> None:
        rng = random.Random(SEED + 1)
        for i in range(KILLS - KILLS // 2):
            with self.subTest(seed=SEED, kill=i):
                w = Watched(self, ENDLESS_BLOCKING if i % 3 == 2 else ENDLESS_ASYNC)
                time.sleep(rng.random() ** 2 * 0.2)  # a random moment
                w.python.kill()
                w.engine_ends()
                self.assertEqual(w.said(), "")

    def test_kill_python_whose_child_has_the_pipe(self) -> None:
        w = Watched(self, ENDLESS_ASYNC.replace("async for r", FORKED.replace("\n", "\n        ") + "\n        async for r", 1))
        w.python.kill()
        w.engine_ends()
        os.killpg(w.python.pid, signal.SIGKILL)
        w.said()

    def test_kill_the_engine_of_fetch(self) -> None:
        w = Watched(self, ENDLESS_BLOCKING)
        os.kill(w.engine, signal.SIGKILL)
        said = w.said()
        self.assertEqual(said.count("Traceback"), 1, said)
        self.assertIn("was killed by SIGKILL", said.splitlines()[-1])


def endless() -> Iterator[str]:
    i = 0
    while True:
        yield f"{target()}/item/{i}"
        i += 1


class InterruptTest(TestCase):
    def test_ctrl_c(self) -> None:
        for code in (ENDLESS_ASYNC, BACKGROUND, ENDLESS_BLOCKING):
            w = Watched(self, code)
            os.killpg(w.python.pid, signal.SIGINT)  # as a terminal does: to both
            said = w.said()
            w.engine_ends()
            self.assertEqual(said.splitlines()[-1], "KeyboardInterrupt", said)
            for storm in ("EngineError", "never retrieved", "was destroyed", "Exception ignored"):
                self.assertNotIn(storm, said)

    def test_python_that_just_exits(self) -> None:
        w = Watched(self, ENDLESS_ASYNC.replace("            pass", "            sys.exit(3)"))
        w.said()
        w.engine_ends()
        self.assertEqual(w.python.returncode, 3)

    def test_an_engine_that_is_ended(self) -> None:
        """SIGTERM: what it has read is answered, and BYE comes. More was asked."""
        w = Watched(self, ANSWERED)
        os.kill(w.engine, signal.SIGTERM)
        said = w.said()
        self.assertEqual(said.count("Traceback"), 1, said)
        self.assertIn("ended with exit code 143", said.splitlines()[-1])

    def test_an_engine_that_panics(self) -> None:
        async def main() -> None:
            async with hotlap.Client() as c:
                assert c.pid is not None
                os.kill(c.pid, signal.SIGQUIT)  # Go prints all goroutines
                with self.assertRaises(hotlap.EngineError) as caught:
                    await c.get(target() + "/delay/60000")
                self.assertIn("SIGQUIT: quit", str(caught.exception))
                self.assertLess(len(str(caught.exception)), 3000)

        run(main())


class ForkTest(TestCase):
    """A child by fork has the pipes of its parent. The child here lives until
    its parent says so."""

    def setUp(self) -> None:
        super().setUp()
        self.hold, self.release = os.pipe()
        self.addCleanup(os.close, self.hold)

    def child(self, what: Callable[[], object] = lambda: None) -> None:
        """Forks a child that does something, which is to raise EngineError, and stays."""
        done, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(self.release)
            try:
                what()
                os.write(tell, b"nothing\n")
            except BaseException as e:
                os.write(tell, f"{type(e).__name__}: {e}\n".encode())
            finally:  # the rest of the tests is the parent's
                os.read(self.hold, 1)
                os._exit(0)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.close, self.release)
        os.close(tell)
        with open(done) as f:
            self.assertRegex(f.readline(), "^EngineError: .*was forked")

    def test_fetch_ends(self) -> None:
        answers = hotlap.fetch(urls(20), in_flight=2)
        self.assertIsNone(next(answers).error)
        self.child(lambda: list(answers))
        self.assertEqual(len(list(answers)), 19)

    def test_client_ends(self) -> None:
        async def main() -> float:
            async with hotlap.Client() as c:
                await c.get(target() + "/a")
                self.child(lambda: died_in_child(c))
                self.assertEqual((await c.get(target() + "/b")).text, "/b")
                started = time.monotonic()
            return time.monotonic() - started

        self.assertLess(run(main()), END_SECONDS)


def died_in_child(c: hotlap.Client) -> None:
    """What a loop in the child would come to."""
    c._readable()
    c._check()


class ListenTest(TestCase):
    def test_socket(self) -> None:
        path = f"{os.environ.get('TMPDIR', '/tmp')}/hotlap-test-{os.getpid()}.sock"
        server = subprocess.Popen([find_binary(), "pipe", "--listen", path, "-p", "8"], stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.communicate)
        self.addCleanup(server.kill)
        assert server.stderr is not None
        self.assertEqual(server.stderr.readline(), f"listening on {path}\n")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

        async def main() -> None:
            async with hotlap.Client(socket=path) as a, hotlap.Client(socket=path) as b:
                self.assertIsNone(a.pid)
                async for r in a.stream(urls(1000)):
                    self.assertEqual(target() + r.text, r.url)
                self.assertEqual((await b.stats())["requests"], 0)
                slow = asyncio.ensure_future(a.get(target() + "/delay/60000"))
                while not a.in_flight:
                    await asyncio.sleep(0)
                server.kill()
                with self.assertRaisesRegex(hotlap.EngineError, "has closed the connection"):
                    await slow

        self.assertEqual(len(list(hotlap.fetch(urls(100), socket=path))), 100)
        run(main())
        os.unlink(path)


if __name__ == "__main__":
    print("seed", SEED, file=sys.stderr)
    unittest.main()
