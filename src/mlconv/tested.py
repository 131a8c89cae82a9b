"""The versions that the test suite runs with: those of `constraints.txt`, which is not part of the package."""

from __future__ import annotations

from collections.abc import Mapping

TESTED = {
    "ai-edge-litert": "2.3.0",
    "h5py": "3.14.0",
    "keras": "3.15.1",
    "numpy": "2.4.6",
    "onnx": "1.23.2",
    "onnx_ir": "1.1.0",
    "onnxruntime": "1.31.1",
    "onnxscript": "0.7.2",
    "onnxslim": "0.1.98",
    "pillow": "13.0.0",
    "psutil": "7.2.2",
    "safetensors": "0.8.0",
    "tensorflow": "2.21.0",
    "tensorflow-cpu": "2.21.0",
    "tf2onnx": "1.17.0",
    "tf_keras": "2.21.0",
    "torch": "2.13.0",
    "typer": "0.29.2",
}


def untested(versions: Mapping[str, str | None]) -> dict[str, str]:
    """The packages whose version was never tested: each with the version that was.

    Args:
        versions: Installed versions by distribution; what follows a ``+`` names a build, and does not count.
    """
    return {
        name: TESTED[name]
        for name, version in versions.items()
        if version is not None and name in TESTED and version.partition("+")[0] != TESTED[name]
    }


def told(versions: Mapping[str, str | None]) -> list[str]:
    """One sentence for each of ``untested``."""
    return [
        f"tested with {name} {tested}; yours is {versions[name]}"
        for name, tested in untested(versions).items()
    ]
