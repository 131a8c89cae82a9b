"""The bytes of tensors in what ``torch.save`` wrote, read without torch and without loading the pickle.

In a zip archive each storage is a member ``data/KEY``. Before torch 1.6 they followed the pickles: a list of keys, and
for each key the number of elements (8 bytes) and the elements (torch/serialization.py, ``_legacy_save``). A bare
pickle holds none.
"""

from __future__ import annotations

import mmap
import sys
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from mlconv.formats import archive, parameters, pickle_reader, torch_archive
from mlconv.formats.archive import broken
from mlconv.formats.pickle_reader import PickleError, Storage, Tensor

_PREAMBLE = 3  # pickles before the object: the magic number, the protocol's version, the sizes of C's types


def read_storages(path: Path, tensors: Iterable[Tensor]) -> dict[str, bytearray]:
    """The bytes of every storage that these tensors lie in, in this machine's byte order, by key.

    Raises:
        Corrupt: A storage is missing, cut off, or shorter than a tensor on it.
    """
    wanted = [tensor for tensor in tensors if tensor.storage is not None]
    with path.open("rb") as file:
        head = file.read(64)
    if archive.is_zip(head):
        return _from_archive(path, wanted)
    return _from_legacy(path, wanted)


def _from_archive(path: Path, tensors: list[Tensor]) -> dict[str, bytearray]:
    opened = archive.open_archive(path)
    order = opened.read("byteorder", 64).decode("ascii", "replace") if "byteorder" in opened else "little"
    found: dict[str, bytearray] = {}
    with zipfile.ZipFile(path) as members:
        for tensor in tensors:
            assert tensor.storage is not None
            torch_archive.assert_stored(opened, "data.pkl", tensor)
            key = tensor.storage.key
            if key in found:
                continue
            try:
                found[key] = bytearray(members.read(opened.members[f"{opened.root}data/{key}"]))
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise broken(path, f"its member `data/{key}` does not unpack: {error}") from error
            if order != sys.byteorder:
                _swap(found[key], _word(tensor.dtype))
    return found


def _from_legacy(path: Path, tensors: list[Tensor]) -> dict[str, bytearray]:
    wanted = {tensor.storage.key for tensor in tensors if tensor.storage is not None}
    found: dict[str, bytearray] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            system = [pickle_reader.read(data).root for _ in range(_PREAMBLE)][-1]
            storages = pickle_reader.read(data).storages
            keys = pickle_reader.read(data).root
        except PickleError as error:
            raise broken(path, f"its pickle is damaged: {error}") from error
        little = not isinstance(system, dict) or system.get("little_endian") is not False
        for key in keys if isinstance(keys, list) else ():
            name = pickle_reader.storage_key(key)
            storage = storages.get(name) if name is not None else None
            content = _next(data, storage, path, "little" if little else "big")
            if name in wanted:
                found[name] = content
    for tensor in tensors:
        assert tensor.storage is not None
        if parameters.bytes_of(torch_archive.reach(tensor), tensor.dtype) > len(
            found.get(tensor.storage.key, b"")
        ):
            raise broken(path, f"it is too short for a tensor of shape {tensor.shape}")
    return found


def _next(data: mmap.mmap, storage: Storage | None, path: Path, order: str) -> bytearray:
    """The storage at which the file stands: its number of elements, then these."""
    if storage is None:
        raise broken(path, "it lists a storage that its pickle does not name")
    size = parameters.bytes_of(1, storage.dtype or "uint8")
    count = int.from_bytes(data.read(8), "little" if order == "little" else "big")
    content = bytearray(data.read(min(count * size, len(data))))
    if len(content) != count * size:
        raise broken(path, f"it breaks off within the storage `{storage.key}`")
    if order != sys.byteorder:
        _swap(content, _word(storage.dtype or "uint8"))
    return content


def _word(dtype: str) -> int:
    """The bytes that stand together: of a complex number each of its two parts."""
    size = parameters.bytes_of(1, dtype)
    return size // 2 if dtype.startswith("complex") else size


def _swap(content: bytearray, size: int) -> None:
    """Turn the bytes of each word of that size around."""
    if size > 1:
        for first in range(size // 2):
            last = size - 1 - first
            content[first::size], content[last::size] = content[last::size], content[first::size]
