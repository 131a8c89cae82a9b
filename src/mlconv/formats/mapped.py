"""Reading files of any size without copying them."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

from mlconv.errors import MissingFile, Unreadable
from mlconv.formats import ModelFile

PROVENANCE_LIMIT = 1 << 20  # bytes; a record is a few kilobytes


def read_only(path: Path) -> memoryview:
    """The bytes of a regular file, mapped: nothing is read before it is looked at. An empty file gives an empty view.

    Raises:
        MissingFile: There is none.
        Unreadable: A folder, a pipe, a device, or no permission.
    """
    try:
        if not path.is_file():
            raise _not_a_file(path)
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise Unreadable(
            f"`{path}` cannot be read", why=str(error.strerror or error), fix="look at its permissions"
        ) from error
    except ValueError:  # mmap of nothing
        return memoryview(b"")


def path_of(model: ModelFile) -> Path:
    """The file or folder of a model.

    Raises:
        Unreadable: It has none.
    """
    if model.path is None:
        raise Unreadable(f"`{model.ref}` is no file", fix="name the model's file")
    return model.path


def provenance(text: bytes | str | memoryview) -> dict[str, Any] | None:
    """The JSON object that mlconv wrote into an artifact; None where it is none, or far too long."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else bytes(text[:PROVENANCE_LIMIT])
    try:
        found = json.loads(raw.rstrip(b"\0"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _not_a_file(path: Path) -> MissingFile | Unreadable:
    if not path.exists():
        return MissingFile(f"`{path}` does not exist", fix="look at the path")
    return Unreadable(f"`{path}` is no regular file", fix="name the model's file")
