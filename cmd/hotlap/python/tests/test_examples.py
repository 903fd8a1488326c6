"""The examples do what they say."""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from typing import List

from .support import PACKAGE, PATIENCE, TestCase, environment, target


def example(name: str, *args: str) -> List[str]:
    """The lines that an example prints."""
    path = os.path.join(PACKAGE, "examples", name)
    done = subprocess.run(
        [sys.executable, path, target(), *args], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
    )
    if done.returncode != 0:
        raise AssertionError(done.stdout)
    return done.stdout.splitlines()


class ExamplesTest(TestCase):
    def test_price_tracker(self) -> None:
        lines = example("price_tracker.py", "300", "2")
        self.assertEqual(len(lines), 2, lines)
        self.assertRegex(lines[0], r"^round 1: 300 prices in \d+ ms, 0 moved, 0 failed$")
        self.assertRegex(lines[1], r"^round 2: 300 prices in \d+ ms, [1-9]\d* moved, 0 failed$")

    def test_backfill(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pages.jsonl")
            with open(path, "w") as f:
                f.write('{"page": 7, "data": "/echo?page=7"}\n{"page": 8, "da')
            lines = example("backfill.py", "300", path)
            self.assertEqual(lines, ["pass 1: 299 pages to fetch", f"{path} has 300 of 300 pages"])
            with open(path) as f:
                pages = [json.loads(line) for line in f]
            self.assertEqual(sorted(p["page"] for p in pages), list(range(300)))
            self.assertTrue(all(p["data"] == f"/echo?page={p['page']}" for p in pages))

    def test_mixed(self) -> None:
        lines = example("mixed.py", "1000")
        self.assertEqual(lines[-1], "1000 items from 10 sections, 10 reports")
        self.assertTrue(all(re.match(r"alive \(\d+ ms\): ", line) for line in lines[:-1]), lines)


if __name__ == "__main__":
    unittest.main()
