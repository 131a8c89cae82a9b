"""What mlconv takes from an HDF5 file: text attributes of its root, and the shapes of its datasets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv.errors import MissingPackage, PathEscape, listed
from mlconv.formats.archive import broken
from mlconv.tensors import TensorSpec

MAGIC = b"\x89HDF\r\n\x1a\n"
_CHILD = Path(__file__).with_name("hdf5_child.py")
_PATIENCE_S = (
    120  # for a file that sends the library round in circles; a model of 100,000 tensors takes about 10
)


@dataclass(frozen=True, slots=True)
class Contents:
    """A HDF5 file.

    Attributes:
        attributes: Text attributes of the root.
        datasets: Every dataset by its path without the leading slash.
        elsewhere: Links and datasets whose content lies in another file.
    """

    attributes: dict[str, str]
    datasets: dict[str, TensorSpec]
    elsewhere: tuple[str, ...]


def look(
    path: Path,
    attributes: tuple[str, ...] = (),
    start: int = 0,
    size: int | None = None,
    name: Path | None = None,
) -> Contents:
    """Read the named root attributes and the shape of every dataset, in a process of its own.

    Args:
        path: A file that is HDF5, or holds it.
        attributes: Names; those that are absent or no text are left out.
        start: Where the HDF5 begins, when ``size`` is given.
        size: Its bytes; None for the whole file.
        name: What errors call the file, where that is not ``path``.

    Raises:
        Corrupt: The library does not read it, crashes on it, or does not come to an end.
        MissingPackage: h5py is not installed.
    """
    answer = _ask({"path": str(path), "attributes": attributes, "start": start, "size": size}, name or path)
    if "error" in answer:
        raise broken(name or path, f"HDF5 does not read it: {answer['error']}")
    datasets = {key: TensorSpec(key, tuple(shape), dtype) for key, shape, dtype in answer["datasets"]}
    return Contents(answer["attributes"], datasets, tuple(answer["elsewhere"]))


def assert_inside(contents: Contents, path: Path) -> None:
    """Refuse a file that takes content from others.

    Raises:
        PathEscape: Naming the links and datasets that do.
    """
    if contents.elsewhere:
        raise PathEscape(
            f"`{path}` takes content from other files: {listed(list(contents.elsewhere))}",
            why="external links, external storage and virtual datasets would make HDF5 read any file of this machine",
            fix="do not use this file; fetch the model from where it was published",
        )


def _ask(request: dict[str, Any], path: Path) -> dict[str, Any]:
    # one thread: OpenBLAS would reserve address space for one per core, of which the child limits its own
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_CHILD)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise broken(path, f"HDF5 does not come to an end with it within {_PATIENCE_S} s") from error
    if "No module named 'h5py'" in done.stderr:
        raise MissingPackage(
            "h5py is not installed, and Keras files are read with it", fix="pip install h5py"
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise broken(path, f"HDF5 ended with code {done.returncode} on it") from error
    return answer if isinstance(answer, dict) else {"error": "no answer"}
