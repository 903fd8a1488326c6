"""The package as it is installed, without a network."""

import os
import subprocess
import sys
import tempfile
import unittest
from typing import List

from hotlap._process import find_binary

from .support import PACKAGE, TestCase, target

USE = """
import hotlap, os, sys
assert "site-packages" in hotlap.__file__, hotlap.__file__
assert os.path.exists(os.path.join(os.path.dirname(hotlap.__file__), "py.typed"))
(r,) = hotlap.fetch([sys.argv[1] + "/installed"])
print(r.text)
"""


class InstallTest(TestCase):
    def test_pip_install_and_wheel(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            wheels = os.path.join(folder, "wheels")
            subprocess.run(
                [sys.executable, os.path.join(PACKAGE, "build_wheel.py"), "--binary", find_binary(), wheels],
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            (wheel,) = os.listdir(wheels)
            self.check(os.path.join(folder, "a"), [PACKAGE], {"HOTLAP_BIN": find_binary()})
            self.check(os.path.join(folder, "b"), [os.path.join(wheels, wheel)], {"PATH": "/nowhere"})

    def check(self, venv: str, what: List[str], environment: "dict[str, str]") -> None:
        """Installs into a new venv, and sends a request from there."""
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HOTLAP_BIN", "PIP_REQUIRE_VIRTUALENV")}
        quiet = {**clean, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        python = os.path.join(venv, "bin", "python")
        pip = subprocess.run([python, "-m", "pip", "install", "-q", *what], env=quiet, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(pip.returncode, 0, pip.stdout)
        said = subprocess.run([python, "-c", USE, target()], cwd=venv, env={**clean, **environment}, stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(said.stdout, "/installed\n")


if __name__ == "__main__":
    unittest.main()
