"""The build backend (PEP 517, PEP 660): makes a wheel of the package with the standard
library alone, so that pip install works without a network.

    python3 build_wheel.py [--binary HOTLAP] FOLDER

makes it by hand. With a binary it is a platform wheel, which carries it;
without one, as under pip, it is for any platform, and HOTLAP_BIN or PATH says
where hotlap is. The same input makes the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import platform
import sys
import tarfile
import zipfile
from typing import Any, Dict, List, Optional, Tuple

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "hotlap"
SUMMARY = "HTTP requests from Python, sent by the hotlap engine"
TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip file knows
SOURCES = ("pyproject.toml", "build_wheel.py", "PROTOCOL.md")


def version() -> str:
    """The version that the package says it has."""
    with open(os.path.join(HERE, NAME, "__init__.py"), encoding="utf-8") as f:
        for line in f:
            if line.startswith("__version__ = "):
                return line.split('"')[1]
    raise RuntimeError("no __version__ in hotlap/__init__.py")


def metadata() -> str:
    return f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version()}\nSummary: {SUMMARY}\nRequires-Python: >=3.9\n"


def package_files() -> List[str]:
    """The files of the package, relative to this folder."""
    found = os.listdir(os.path.join(HERE, NAME))
    return [os.path.join(NAME, f) for f in sorted(found) if f.endswith(".py") or f == "py.typed"]


def tag(binary: Optional[str]) -> str:
    """Go's binary is static: any libc will do, so both tags of wheels are said."""
    if binary is None:
        return "py3-none-any"
    machine = platform.machine()
    return f"py3-none-manylinux2014_{machine}.manylinux_2_17_{machine}.musllinux_1_1_{machine}"


def make(folder: str, files: Dict[str, bytes], wheel_tag: str, executable: Tuple[str, ...] = ()) -> str:
    """Writes a wheel of files, and returns its name."""
    info = f"{NAME}-{version()}.dist-info"
    pure = "true" if wheel_tag.endswith("any") else "false"
    python, abi, platforms = wheel_tag.split("-")
    tags = "".join(f"Tag: {python}-{abi}-{p}\n" for p in platforms.split("."))
    files = {
        **files,
        f"{info}/METADATA": metadata().encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: {pure}\n{tags}".encode(),
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    wheel = f"{NAME}-{version()}-{wheel_tag}.whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            z.writestr(entry, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _read(name: str) -> bytes:
    with open(os.path.join(HERE, name), "rb") as f:
        return f.read()


# What pip calls.


def get_requires_for_build_wheel(config_settings: Any = None) -> List[str]:
    return []


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Optional[str] = None) -> str:
    return make(wheel_directory, {name: _read(name) for name in package_files()}, tag(None))


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: Optional[str] = None) -> str:
    return make(wheel_directory, {f"{NAME}.pth": (HERE + "\n").encode()}, tag(None))


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    base = f"{NAME}-{version()}"
    with tarfile.open(os.path.join(sdist_directory, base + ".tar.gz"), "w:gz") as t:
        for name in [*SOURCES, *package_files()]:
            t.add(os.path.join(HERE, name), f"{base}/{name}")
        entry, data = tarfile.TarInfo(f"{base}/PKG-INFO"), metadata().encode()
        entry.size = len(data)
        t.addfile(entry, io.BytesIO(data))
    return base + ".tar.gz"


def main(args: List[str]) -> None:
    parser = argparse.ArgumentParser(description="Makes a wheel of the package.")
    parser.add_argument("--binary", help="the hotlap program that it is to carry")
    parser.add_argument("folder", help="where it is to be")
    options = parser.parse_args(args)
    files = {name: _read(name) for name in package_files()}
    executable = f"{NAME}/bin/hotlap"
    if options.binary is not None:
        with open(options.binary, "rb") as f:
            files[executable] = f.read()
    os.makedirs(options.folder, exist_ok=True)
    print(os.path.join(options.folder, make(options.folder, files, tag(options.binary), (executable,))))


if __name__ == "__main__":
    main(sys.argv[1:])
