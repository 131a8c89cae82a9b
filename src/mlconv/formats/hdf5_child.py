"""Looks into one HDF5 file, in a process of its own.

HDF5's C library believes what a file says of its sizes: a damaged one makes it allocate gigabytes, and may crash it. So it
runs here, under a memory limit. The request comes as JSON on stdin, the answer goes as JSON to stdout. The file is run by
its path and needs h5py alone, not mlconv.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

SPARE_BYTES = 1 << 30  # beyond what the interpreter and its libraries take
TEXT_LIMIT = 256 << 20  # bytes of one attribute; the configuration of a large model has a few MB
OBJECT_LIMIT = 1_000_000


def main() -> None:
    request = json.load(sys.stdin)
    import h5py

    _limit_memory()
    source: Path | BinaryIO = Path(request["path"])
    if request["size"] is not None:
        source = cast(
            "BinaryIO", io.BufferedReader(Window(request["path"], request["start"], request["size"]))
        )
    try:
        with h5py.File(source, "r") as file:
            answer = _contents(file, request["attributes"])
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        answer = {"error": str(error)[:500] or type(error).__name__}
    json.dump(answer, sys.stdout)


class Window(io.RawIOBase):
    """Some bytes of a file as a file of their own."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed with the window
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def _limit_memory() -> None:
    """Linux alone counts address space in a way that a limit can use."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = used + SPARE_BYTES
        resource.setrlimit(
            resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _contents(file: Any, attributes: list[str]) -> dict[str, Any]:
    datasets, elsewhere = [], []
    for name, item in _walk(file):
        if item is None or item.is_virtual or item.id.get_create_plist().get_external_count():
            elsewhere.append(name)
        elif item.shape is not None:
            datasets.append([name, [int(size) for size in item.shape], _dtype(item.dtype)])
    texts = {name: text for name in attributes if (text := _text(file.attrs, name)) is not None}
    return {"attributes": texts, "datasets": datasets, "elsewhere": elsewhere}


def _walk(file: Any) -> Iterator[tuple[str, Any]]:
    """Every dataset by its path, and None for a link to another file. A group that is met again is not entered."""
    import h5py

    seen: set[int] = set()
    rest: list[tuple[str, Any]] = [("", file)]
    while rest:
        prefix, group = rest.pop()
        for name in group:
            path = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield path, None
            if not isinstance(link, h5py.HardLink):
                continue
            item = group[name]
            address = int(h5py.h5o.get_info(item.id).addr)
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > OBJECT_LIMIT:
                raise ValueError(f"more than {OBJECT_LIMIT:,} objects")
            if isinstance(item, h5py.Group):
                rest.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                yield path, item


def _text(attributes: Any, name: str) -> str | None:
    import h5py

    if name not in attributes:
        return None
    identity = attributes.get_id(name)
    if identity.get_type().get_class() != h5py.h5t.STRING or identity.get_storage_size() > TEXT_LIMIT:
        return None
    value = attributes[name]
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else None
    )


def _dtype(kind: Any) -> str:
    if kind.kind in "SUO":
        return "str"
    return "bfloat16" if kind.kind == "V" and kind.itemsize == 2 else str(kind.name)


if __name__ == "__main__":
    main()
