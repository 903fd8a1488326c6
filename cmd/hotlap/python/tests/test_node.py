"""The second client of the protocol, in Node."""

import os
import shutil
import subprocess
import unittest

from .support import PATIENCE, TestCase, environment, target


class NodeTest(TestCase):
    def test_client_js(self) -> None:
        node = shutil.which("node")
        if node is None:
            if os.environ.get("CI"):
                self.fail("this test needs node")
            self.skipTest("this test needs node: install it")
        script = os.path.join(os.path.dirname(__file__), "client_test.js")
        done = subprocess.run(
            [node, script, target()], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
        )
        self.assertEqual((done.returncode, done.stdout), (0, "ok\n"), done.stdout)


if __name__ == "__main__":
    unittest.main()
