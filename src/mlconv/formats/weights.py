"""``torch-weights``: state dicts, whatever file they lie in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from mlconv.errors import Corrupt, ExternalDataMissing, PathEscape, counted, listed
from mlconv.formats import (
    Description,
    ModelFile,
    archive,
    mapped,
    parameters,
    safetensors_file,
    torch_archive,
    torch_checkpoint,
)
from mlconv.formats.archive import broken
from mlconv.formats.pickle_reader import Pickle, Tensor
from mlconv.formats.refs import for_shell
from mlconv.tensors import TensorSpec

_NEEDS_MODULE = "weights name tensors, not what computes with them: conversion needs --module"
T = TypeVar("T")
_INDEX_LIMIT = 64 << 20  # bytes; an index has about 100 for a tensor


def weights_index(path: Path) -> dict[str, TensorSpec]:
    """Name, shape and dtype of every tensor of a ``torch-weights`` file, without loading any.

    Where a checkpoint wraps its state dict, the names are those inside; where it holds several, each name begins with
    the key of its own.

    Raises:
        Corrupt: The file is damaged.
        PathEscape, ExternalDataMissing: As ``shards``.
    """
    head = bytes(mapped.read_only(path)[:64])
    if is_index(head):
        return by_index(path, {shard: weights_index(shard) for shard in shards(path)})
    if safetensors_file.is_safetensors(head):
        return safetensors_file.read_header(path)[0]
    return {
        name: torch_checkpoint.spec(name, tensor) for name, tensor in read_checkpoint(path).tensors.items()
    }


def by_index(path: Path, found: Mapping[Path, Mapping[str, T]]) -> dict[str, T]:
    """Every tensor that an index names, out of the shard that it names for it; what else the shards hold is left out.

    Args:
        found: What each shard holds, by the shard.

    Raises:
        Corrupt: A shard does not hold a tensor that the index says it does.
    """
    tensors = {}
    for name, shard in _weight_map(path).items():
        held = found[path.parent / shard]
        if name not in held:
            raise broken(path, f"it names `{name}` in `{shard}`, which does not hold it")
        tensors[name] = held[name]
    return tensors


def read_checkpoint(path: Path) -> torch_checkpoint.Checkpoint[Tensor]:
    """The weights of a file whose format is ``torch-weights``, or of a ``torch-pickle`` that holds a whole module.

    Raises:
        Corrupt: It holds none that can be had without loading it, or is damaged.
    """
    return _checkpoint(torch_archive.read_any_pickle(path), path)


def _checkpoint(found: Pickle, path: Path) -> torch_checkpoint.Checkpoint[Tensor]:
    checkpoint = torch_checkpoint.find_checkpoint(found, modules=True)
    if checkpoint is None:
        raise broken(path, "it holds no state dict")
    return checkpoint


def is_readable(path: Path) -> bool:
    """Whether the weights of a ``torch-pickle`` can be had without loading it."""
    try:
        read_checkpoint(path)
    except Corrupt:
        return False
    return True


def is_index(head: bytes) -> bool:
    """Whether a file can be an index of shards: it is a JSON object."""
    return head.lstrip()[:1] == b"{"


def shards(path: Path) -> tuple[Path, ...]:
    """The files that an index (``model.safetensors.index.json``) names, each once.

    Raises:
        Corrupt: It is no index.
        PathEscape: One does not lie in the index's folder, links followed. The cache of Hugging Face keeps an index and
            what it names in one folder too, and links to both from another.
        ExternalDataMissing: One is not there.
    """
    names = list(dict.fromkeys(_weight_map(path).values()))
    found = []
    for name in names:
        file = path.parent / name
        if archive.leads_outside(name) or not (_is_within(file, path.parent) or _is_blob_beside(file, path)):
            raise PathEscape(f"`{path}` names `{name}`, outside its folder", fix=_inside(name, path))
        if not file.is_file() or is_index(bytes(mapped.read_only(file)[:64])):
            raise ExternalDataMissing(
                f"`{path}` names `{name}`, which is not there", fix=f"put `{name}` beside `{path.name}`"
            )
        found.append(file)
    return tuple(found)


def _is_within(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _is_blob_beside(file: Path, index: Path) -> bool:
    """Whether an index and a file beside it are links into one folder, as the cache of Hugging Face has its `blobs`."""
    return (
        file.parent == index.parent
        and index.is_symlink()
        and file.is_symlink()
        and file.resolve().parent == index.resolve().parent
    )


def _inside(name: str, index: Path) -> str:
    """How the files that an index names come into its folder."""
    if archive.leads_outside(name):
        return "put every shard into the folder of the index; do not use an index that you did not expect to do this"
    folder = index.parent.resolve()
    copied = f"{folder.name}-files"
    return (
        f"if you know where the links of that folder lead, copy what they lead to: "
        f"cp -rL {for_shell(str(folder))} {for_shell(copied)}; then name {for_shell(f'{copied}/{index.name}')}"
    )


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """The parameters of a state dict; its tensors are told by ``weights_index``.

    Raises:
        Corrupt, PathEscape, ExternalDataMissing: As ``weights_index``.
    """
    del signature
    path = mapped.path_of(model)
    head = bytes(mapped.read_only(path)[:64])
    if not is_index(head) and not safetensors_file.is_safetensors(head):
        return _describe_checkpoint(path)
    files = shards(path) if is_index(head) else (path,)
    specs = list(weights_index(path).values())
    metadata = {} if is_index(head) else safetensors_file.read_header(path)[1]
    notes = [f"state dict of {counted(len(specs), 'tensor')}: {torch_checkpoint.dtype_counts(specs)}"]
    notes += [f"in {counted(len(files), 'file')} beside the index"] if is_index(head) else []
    notes.append(_NEEDS_MODULE)
    size = sum(file.stat().st_size for file in {path, *files})
    return Description(
        "torch-weights", parameters=parameters.count(specs), bytes=size, metadata=metadata, notes=tuple(notes)
    )


def _describe_checkpoint(path: Path) -> Description:
    pickled = torch_archive.read_any_pickle(path)
    found = _checkpoint(pickled, path)
    specs = torch_checkpoint.distinct(found.tensors)
    notes = (
        [f"state dict of {counted(len(found.tensors), 'tensor')}: {torch_checkpoint.dtype_counts(specs)}"]
        if specs
        else ["state dict without tensors"]
    )
    if found.under:
        notes.append(f"the weights stand under {'.'.join(f'`{key}`' for key in found.under)}")
    if found.beside:
        notes.append(f"beside the weights it holds {listed(found.beside)}")
    if found.rivals:
        notes.append(f"other weights of the same network stand under {listed(list(found.rivals))}")
    if pickled.foreign:
        notes.append(
            f"its pickle names {listed([str(name) for name in pickled.foreign], 3)}, and is read without being loaded"
        )
    notes.append(_NEEDS_MODULE)
    return Description(
        "torch-weights", parameters=parameters.count(specs), bytes=path.stat().st_size, notes=tuple(notes)
    )


def _weight_map(path: Path) -> dict[str, str]:
    """For each tensor the file that holds it."""
    if path.stat().st_size > _INDEX_LIMIT:
        raise broken(path, f"an index of weights is at most {_INDEX_LIMIT:,} bytes long")
    try:
        found = dict(json.loads(path.read_bytes())["weight_map"].items())
        for name in found.values():
            if not isinstance(name, str):
                raise TypeError(f"{name!r} is no file name")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken(path, f"its `weight_map` cannot be read: {error}") from error
    return found
