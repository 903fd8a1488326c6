"""An asyncio application with two sources of requests in one client: a crawl
whose pages name more pages, as a stream, and single requests beside it.

    hotlap serve &
    python3 mixed.py [URL] [ITEMS]

Sections are fetched first; each names items, which join the stream while it
runs. Every hundredth item is reported with a POST of its own, and a heartbeat
asks for a slow page meanwhile: neither waits for the stream.
"""

import asyncio
import sys
from typing import AsyncIterator

import hotlap

PER_SECTION = 100


class Crawl:
    def __init__(self, base: str, items: int) -> None:
        self.base = base
        self.sections = (items + PER_SECTION - 1) // PER_SECTION
        self.todo: "asyncio.Queue[str]" = asyncio.Queue()
        self.open = 0  # pages that were asked for and not handled
        self.items = 0
        self.reported = 0

    def add(self, url: str) -> None:
        self.open += 1
        self.todo.put_nowait(url)

    async def urls(self) -> AsyncIterator[str]:
        """All that is to be fetched, as it becomes known, until nothing is open."""
        for s in range(self.sections):
            self.add(f"{self.base}/section/{s}")
        while self.open:
            url = await self.todo.get()
            if url:
                yield url

    async def handle(self, client: hotlap.Client, r: hotlap.Response) -> None:
        r.raise_for_status()
        kind, number = r.text.split("/")[1:]
        if kind == "section":  # hotlap serve answers with the path: the items are made of it
            for i in range(PER_SECTION):
                self.add(f"{self.base}/item/{int(number) * PER_SECTION + i}")
        else:
            self.items += 1
            if self.items % 100 == 0:
                report = await client.post(f"{self.base}/echo", json={"items": self.items})
                report.raise_for_status()
                self.reported += 1
        self.open -= 1
        if not self.open:
            self.todo.put_nowait("")  # wakes urls, which ends


async def heartbeat(client: hotlap.Client, base: str) -> None:
    while True:
        r = await client.get(f"{base}/delay/100", timeout=5)
        stats = await client.stats()
        print(f"alive ({r.times.total * 1000:.0f} ms): {stats['responses']} responses, {stats['in_flight']} in flight")


async def main(base: str, items: int) -> None:
    crawl = Crawl(base, items)
    async with hotlap.Client(connections=16) as client:
        beat = asyncio.ensure_future(heartbeat(client, base))
        async for r in client.stream(crawl.urls()):
            await crawl.handle(client, r)
        beat.cancel()  # its request with it
        await asyncio.wait([beat])
    print(f"{crawl.items} items from {crawl.sections} sections, {crawl.reported} reports")


if __name__ == "__main__":
    args = sys.argv[1:] + ["http://127.0.0.1:8080", "5000"][len(sys.argv) - 1 :]
    asyncio.run(main(args[0], int(args[1])))
