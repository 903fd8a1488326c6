"""Fills a file with all pages of an API that allows so many requests per second.

    hotlap serve &
    python3 backfill.py [URL] [PAGES] [FILE]

It is blocking code, and may be stopped and started again at any time: pages
that the file has are not asked for again. Pages that failed, or that the server
refused for now (429, 503), are asked for again in the next pass.
"""

import json
import sys
from typing import Iterator, Set

import hotlap

PER_SECOND = 2000  # what the API allows
PASSES = 5


def pages_in(path: str) -> Set[int]:
    """The pages that a file has. A last line that was cut off is taken away."""
    have, whole = set(), 0
    try:
        with open(path, "rb+") as f:
            for line in f:
                if line.endswith(b"\n"):
                    have.add(json.loads(line)["page"])
                    whole += len(line)
            f.truncate(whole)
    except FileNotFoundError:
        pass
    return have


def requests(base: str, pages: Iterator[int]) -> Iterator[hotlap.Request]:
    for page in pages:
        yield hotlap.Request("GET", f"{base}/echo", params={"page": page}, meta=page)


def main(base: str, pages: int, path: str) -> None:
    for number in range(PASSES):
        have = pages_in(path)
        missing = [p for p in range(pages) if p not in have]
        if not missing:
            break
        print(f"pass {number + 1}: {len(missing)} pages to fetch")
        with open(path, "a", encoding="utf-8") as f:
            for r in hotlap.fetch(requests(base, iter(missing)), connections=32, host_rate=PER_SECOND, timeout=10):
                if r.is_success:
                    f.write(json.dumps({"page": r.request.meta, "data": r.json()["target"]}) + "\n")
                elif r.status_code not in (429, 503):
                    print(f"page {r.request.meta}: {r.error or r.status_code}")
    have = pages_in(path)
    print(f"{path} has {len(have)} of {pages} pages")


if __name__ == "__main__":
    args = sys.argv[1:] + ["http://127.0.0.1:8080", "5000", "pages.jsonl"][len(sys.argv) - 1 :]
    main(args[0], int(args[1]), args[2])
