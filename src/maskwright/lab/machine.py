"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    import maskwright

    packages = {name: version(name) for name in ("torch", "transformers", "numpy")}
    return {"maskwright": maskwright.__version__, **packages, "python": platform.python_version()}


def machine() -> dict[str, str | int]:
    return {"processor": _processor(), "cores": os.cpu_count() or 1}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
