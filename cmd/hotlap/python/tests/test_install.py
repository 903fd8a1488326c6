"""The package as it is installed, without a network."""

import os
import subprocess
import sys
import tempfile
import unittest
from typing import Dict

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
            venv = os.path.join(folder, "venv")
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            self.check(venv, PACKAGE, {"HOTLAP_BIN": find_binary()})
            self.check(venv, os.path.join(wheels, wheel), {"PATH": "/nowhere"})

    def check(self, venv: str, what: str, environment: Dict[str, str]) -> None:
        """Installs into the venv, and sends a request from there."""
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "HOTLAP_BIN", "PIP_REQUIRE_VIRTUALENV")}
        python = os.path.join(venv, "bin", "python")
        pip = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--no-index", "--force-reinstall", "--disable-pip-version-check", what],
            env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.assertEqual(pip.returncode, 0, pip.stdout)
        said = subprocess.run([python, "-c", USE, target()], cwd=venv, env={**clean, **environment}, stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(said.stdout, "/installed\n")


if __name__ == "__main__":
    unittest.main()
