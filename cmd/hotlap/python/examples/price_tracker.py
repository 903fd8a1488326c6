"""Asks for the prices of many symbols again and again, and tells what moved.

    hotlap serve &
    python3 price_tracker.py [URL] [SYMBOLS] [ROUNDS]

Every round sends one request per symbol through one stream; a price that does
not come within a second is a failure of that symbol alone.
"""

import asyncio
import sys
import time
import zlib
from typing import Dict, Iterator

import hotlap

EVERY_SECONDS = 0.5
MOVED = 0.5  # a change of price, relative to the last one, that is worth a line


def requests(base: str, symbols: int, round_number: int) -> Iterator[hotlap.Request]:
    for i in range(symbols):
        symbol = f"SYM{i:04}"
        yield hotlap.Request("GET", f"{base}/echo", params={"symbol": symbol, "tick": round_number}, timeout=1.0, meta=symbol)


def price(r: hotlap.Response) -> float:
    """The price in a response. hotlap serve has none: it says what it was asked,
    and that makes one."""
    return 1.0 + zlib.crc32(r.json()["target"].encode()) % 10_000 / 100


async def main(base: str, symbols: int, rounds: int) -> None:
    last: Dict[str, float] = {}
    async with hotlap.Client(connections=16, pipeline="auto", retries=1) as client:
        for round_number in range(rounds):
            started, moved, failed = time.monotonic(), 0, 0
            async for r in client.stream(requests(base, symbols, round_number)):
                if not r.is_success:
                    failed += 1
                    print(f"{r.request.meta}: {r.error or r.status_code}")
                    continue
                now, symbol = price(r), r.request.meta
                if symbol in last and abs(now - last[symbol]) > MOVED * last[symbol]:
                    moved += 1
                last[symbol] = now
            took = time.monotonic() - started
            print(f"round {round_number + 1}: {symbols} prices in {took * 1000:.0f} ms, {moved} moved, {failed} failed")
            if round_number + 1 < rounds:
                await asyncio.sleep(max(0.0, EVERY_SECONDS - took))


if __name__ == "__main__":
    args = sys.argv[1:] + ["http://127.0.0.1:8080", "1000", "5"][len(sys.argv) - 1 :]
    asyncio.run(main(args[0], int(args[1]), int(args[2])))
