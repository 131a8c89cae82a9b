"""What a figure holds for: the versions, the processor and the day."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path


def machine(packages: Sequence[str]) -> str:
    """``onnx 1.23.2, onnxruntime 1.31.1; Python 3.11.7; 2 x AMD EPYC; 2026-11-21.``; what is not installed is left out."""
    told = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.*)", told.read_text()) if told.is_file() else []
    processor = f"{len(names)} x {names[0]}" if names else platform.processor()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    versions = ", ".join(f"{name} {version}" for name in packages if (version := _version(name)))
    return f"{versions}; Python {platform.python_version()}; {processor}; {day}."


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
