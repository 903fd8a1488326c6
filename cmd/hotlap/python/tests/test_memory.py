"""Memory does not grow with the number of requests.

HOTLAP_MEMORY_REQUESTS is how many (200000).
"""

import asyncio
import os
import unittest
from typing import Dict, List

import hotlap

from .support import TestCase, target

REQUESTS = int(os.environ.get("HOTLAP_MEMORY_REQUESTS", "200000"))
STEPS = 20
GROWTH_KB = 12 << 10  # what an allocator may add to the first half's peak: noise, not a leak at these numbers


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


class MemoryTest(TestCase):
    def test_flat(self) -> None:
        samples: Dict[str, List[int]] = {"python": [], "hotlap": []}

        async def main() -> None:
            async with hotlap.Client(connections=32, pipeline=16) as c:
                assert c.pid is not None
                pids = {"python": os.getpid(), "hotlap": c.pid}
                base, count = target(), 0
                async for r in c.stream(f"{base}/item/{i}" for i in range(REQUESTS)):
                    if r.content != r.url[len(base) :].encode():
                        self.fail(f"{r.url} was answered by {r.content!r}")
                    count += 1
                    if c.in_flight > c.max_in_flight:
                        self.fail(f"{c.in_flight} in flight, the bound is {c.max_in_flight}")
                    if count % (REQUESTS // STEPS) == 0:
                        for name, pid in pids.items():
                            samples[name].append(resident_kb(pid))
                    if count % (REQUESTS // 4) == 0:
                        await asyncio.sleep(0.3)  # a reader that sleeps
                self.assertEqual(count, REQUESTS)

        asyncio.run(main())
        for name, kb in samples.items():
            with self.subTest(process=name, samples_kb=kb):
                half = len(kb) // 2
                self.assertLess(max(kb[half:]), max(kb[:half]) + GROWTH_KB)
        if REQUESTS > 1_000_000:
            print(f"{REQUESTS} requests, resident KB:", samples)


if __name__ == "__main__":
    unittest.main()
