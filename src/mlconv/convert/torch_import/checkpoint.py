"""Reading a file of weights: every tensor by name, and nothing of the file is run.

Pickles are read by torch with ``weights_only=True``. Where torch refuses one for what stands beside the weights (the
settings of a training, a whole module), its tensors are built here, from the storages that its pickle names; the pickle
is read and not loaded (``formats.pickle_reader``). Only what cannot be had so is run, and only with consent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch

from mlconv.convert.torch_import.ref_import import chain_of, missing_module
from mlconv.errors import (
    Corrupt,
    MissingFile,
    MlconvError,
    SourceDoesNotRun,
    UntrustedPickle,
    WeightsMismatch,
    counted,
    listed,
)
from mlconv.formats import archive, mapped, safetensors_file, torch_archive, torch_checkpoint, torch_storages
from mlconv.formats import weights as weights_file
from mlconv.formats.pickle_reader import Mapping as Read
from mlconv.formats.pickle_reader import Tensor
from mlconv.formats.refs import for_shell
from mlconv.formats.torch_checkpoint import Checkpoint, StateDict
from mlconv.messages import Scene, recognised
from mlconv.messages.python_words import PYTHON

State: TypeAlias = "dict[str, torch.Tensor] | StateDict[torch.Tensor]"


_NESTED = 3
"""How deep in a file a state dict is sought."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The state dict of a file.

    Attributes:
        name: The file's.
        tensors: By name.
        under: The keys that lead to them; empty where the file is the state dict.
        rivals: Other state dicts of the same network in the file (averaged weights), by key.
        notes: What users should know, one sentence each.
        unread: Names of extra state (``get_extra_state``) that only loading the file would give.
    """

    name: str
    tensors: State
    under: tuple[str, ...] = ()
    rivals: Mapping[str, State] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


def read_weights(path: Path, *, trusted: bool = False) -> Weights:
    """The weights of a file: safetensors, an index of several files, or what ``torch.save`` wrote.

    What a file is its content tells, as everywhere in ``formats``; its suffix tells nothing.

    Raises:
        MissingFile, Corrupt, ExternalDataMissing, PathEscape: The file or one that it names.
        UntrustedPickle: Its tensors cannot be had without running it, and it is not trusted.
        WeightsMismatch: It holds no state dict.
    """
    if not path.is_file():
        raise MissingFile(f"no file `{path}`", fix="name an existing file of weights")
    head = bytes(mapped.read_only(path)[:64])
    if weights_file.is_index(head):
        return _of_shards(
            path, {shard: read_weights(shard, trusted=trusted) for shard in weights_file.shards(path)}
        )
    if safetensors_file.is_safetensors(head):
        return Weights(path.name, _read_safetensors(path).tensors)
    return _read_pickle(path, trusted=trusted)


def read_state(path: Path, *, trusted: bool = False) -> State:
    """The tensors of ``read_weights``."""
    return read_weights(path, trusted=trusted).tensors


def unpickled(path: Path, ref: str) -> object:
    """What a trusted pickle holds; loading it runs whatever it says.

    Raises:
        SourceDoesNotRun: A class that it names cannot be imported.
        Corrupt: It cannot be read.
    """
    # at the end: the classes that it names may lie there
    sys.path += [str(path.resolve().parent), str(Path.cwd())]
    try:
        with path.open("rb") as file:  # by its name torch takes what is called .safetensors for such a file
            return torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise _unknown_class(path, ref, error) from error
    except Exception as error:  # whatever the pickle's own code raises
        known = recognised(chain_of(error), Scene(f"unpickling `{ref}`"), PYTHON)
        if known is not None:
            raise known from error
        raise Corrupt(
            f"`{ref}` cannot be unpickled", why=_first_line(error), fix="fetch or save it again"
        ) from error


def _unknown_class(path: Path, ref: str, error: Exception) -> SourceDoesNotRun:
    what, without = f"`{ref}` needs a class that cannot be imported", ""
    if weights_file.is_readable(path):
        without = f"; or, without loading it: mlconv onnx FILE.py:NAME --weights {for_shell(ref)}, where NAME builds the same network"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return SourceDoesNotRun(
            what,
            why=f"there is no module `{error.name}`",
            fix=missing_module(error.name, path.resolve().parent) + without,
        )
    if "__main__" in str(error):
        return SourceDoesNotRun(
            what, why=f"{_first_line(error)}: it was defined in the script or notebook that saved it",
            fix=(without.removeprefix("; or, without loading it: ") or "save module.state_dict() there, and give --module FILE.py:NAME"),
        )  # fmt: skip
    return SourceDoesNotRun(
        what, why=_first_line(error),
        fix="install the version of the package that saved it, or run mlconv in the folder of that project" + without,
    )  # fmt: skip


# ------------------------------------------------------------------ files


def _of_shards(path: Path, shards: Mapping[Path, Weights]) -> Weights:
    """The tensors that an index names, each out of the shard that it names for it."""
    held = {shard: {**weights.tensors, **extra_of(weights.tensors)} for shard, weights in shards.items()}
    taken = weights_file.by_index(path, held)
    left = sum(len(names.keys() - taken.keys()) for names in held.values())
    versions: dict[str, Any] = {}
    for weights in shards.values():
        versions |= versions_of(weights.tensors) or {}
    state = torch_checkpoint.find_state(Read({**taken}), torch.Tensor)
    tensors = StateDict(
        state.tensors if state else {}, versions or None, state.tensors.extra if state else None
    )
    notes = [note for weights in shards.values() for note in weights.notes]
    if left:
        notes.append(
            f"{counted(left, 'tensor')} of the shards of {path.name} {'was' if left == 1 else 'were'} left out: the index does not name them"
        )
    unread = frozenset[str]().union(*(weights.unread for weights in shards.values()))
    return Weights(
        path.name, tensors, notes=tuple(dict.fromkeys(notes)), unread=unread & tensors.extra.keys()
    )


def extra_of(state: State) -> dict[str, Any]:
    """What modules added to a state dict by ``get_extra_state``."""
    return state.extra if isinstance(state, StateDict) else {}


def versions_of(state: State) -> dict[Any, Any] | None:
    """What torch tells each module of a state dict, by the module's path; None where nothing was kept."""
    return state.versions if isinstance(state, StateDict) else None


def _read_safetensors(path: Path) -> Checkpoint[torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    safetensors_file.read_header(path)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise Corrupt(
            f"`{path.name}` is no sound safetensors file", why=str(error), fix="fetch or save it again"
        ) from error
    return torch_checkpoint.find_state(state, torch.Tensor) or Checkpoint(StateDict(state))


def _read_pickle(path: Path, *, trusted: bool) -> Weights:
    try:
        # by its name torch takes what is called .safetensors for such a file
        with torch.serialization.safe_globals(_harmless()), path.open("rb") as file:
            return _weights(torch.load(file, map_location="cpu", weights_only=True), path)
    except MlconvError:
        raise
    except Exception as error:  # any kind, by where the file is broken or unsafe
        found = _without_loading(path)
        if found is not None and not (trusted and found.unread):
            return found
        if not trusted:
            raise _refused(path, error) from error
    return _weights(unpickled(path, path.name), path)


def _without_loading(path: Path) -> Weights | None:
    """The weights in a pickle that torch refuses, built from its storages; None where that is not possible.

    Raises:
        Corrupt: A storage is missing or cut off.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if torch_archive.is_tar(path, head):
        return None
    try:
        found = torch_archive.read_any_pickle(path)
    except Corrupt:
        return None
    checkpoint = torch_checkpoint.find_checkpoint(found, modules=True)
    if found.is_plain or checkpoint is None:
        return None
    every = [checkpoint.tensors, *checkpoint.rivals.values()]
    storages = torch_storages.read_storages(
        path,
        [
            item
            for state in every
            for item in (*state.values(), *state.extra.values())
            if isinstance(item, Tensor) and _is_data(item)
        ],
    )
    rivals = {key: _built(state, storages) for key, state in checkpoint.rivals.items()}
    unread = frozenset(name for state in every for name, value in state.extra.items() if not _is_data(value))
    return Weights(path.name, _built(checkpoint.tensors, storages), checkpoint.under, rivals, unread=unread)


def _built(state: StateDict[Tensor], storages: Mapping[str, bytearray]) -> State:
    """Tensors on the storages that they name; those that share one (tied weights) share it again."""
    extra = {
        name: _tensor(value, storages) if isinstance(value, Tensor) and _is_data(value) else value
        for name, value in state.extra.items()
    }
    versions = state.versions if _is_data(state.versions) else None
    return StateDict({name: _tensor(tensor, storages) for name, tensor in state.items()}, versions, extra)


def _is_data(value: object) -> bool:
    """Whether loading would give this very value. A list may have been a set, and only tensors by themselves are built."""
    if isinstance(value, Tensor):
        return torch_checkpoint.is_readable({"": value})
    waiting, seen = [value], set[int]()
    while waiting:
        item = waiting.pop()
        if isinstance(item, (dict, tuple)):
            if id(item) not in seen:
                seen.add(id(item))
                waiting += (*item.keys(), *item.values()) if isinstance(item, dict) else item
        elif not isinstance(item, (str, int, float, bytes, type(None))):
            return False
    return True


def _tensor(tensor: Tensor, storages: Mapping[str, bytearray]) -> torch.Tensor:
    dtype = getattr(torch, tensor.dtype)
    content = storages[tensor.storage.key] if tensor.storage is not None else bytearray()
    if 0 in tensor.shape or not content:
        return torch.empty(tensor.shape, dtype=dtype)
    size = torch.empty(0, dtype=dtype).element_size()
    flat = torch.frombuffer(content, dtype=dtype, count=len(content) // size)
    made = flat.as_strided(tensor.shape, tensor.strides, tensor.offset)
    if tensor.is_conjugate:
        made = made.conj().resolve_conj()
    return -made if tensor.is_negative else made


def _refused(path: Path, error: Exception) -> MlconvError:
    """Why torch does not read a file of weights: what it would import tells, where it can be read so far.

    Raises:
        Corrupt: It is damaged before anything else is wrong.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if torch_archive.is_tar(path, head):
        names = ["what torch 0.1 wrote beside tensors"]
    elif archive.is_zip(head):
        names = [str(name) for name in torch_archive.read_archive_pickle(archive.open_archive(path)).foreign]
    else:
        names = [str(name) for name in torch_archive.read_pickle(path).foreign]
    if names or "weights_only" in str(error):
        return UntrustedPickle(
            f"`{path.name}` holds a pickle that would run code", why=f"it imports {listed(names)}" if names else _first_line(error),
            fix="--trust-pickle, if you know who made the file; or save the state dict as .safetensors",
        )  # fmt: skip
    return Corrupt(f"`{path.name}` cannot be read", why=_first_line(error), fix="fetch or save it again")


def _harmless() -> list[Any]:
    """What numpy's numbers are made of: checkpoints keep losses and learning rates so."""
    import codecs

    import numpy as np
    from numpy._core import multiarray

    kinds = [
        getattr(np.dtypes, name)
        for name in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")
    ]
    return [multiarray.scalar, np.dtype, codecs.encode, *kinds]


# ------------------------------------------------------------------ what was loaded


def _weights(value: object, path: Path) -> Weights:
    """The state dict inside a checkpoint, the one of which `inspect` tells: see ``torch_checkpoint.find_state``.

    Raises:
        WeightsMismatch: There is none, or it is empty.
    """
    plain = _plain(value, depth=_NESTED)
    found: Checkpoint[torch.Tensor] | None = torch_checkpoint.find_state(plain, torch.Tensor)
    if found is None or not found.tensors:
        raise _no_state(value, plain, path, is_empty=found is not None)
    return Weights(path.name, found.tensors, found.under, found.rivals)


def _no_state(value: object, plain: object, path: Path, *, is_empty: bool) -> WeightsMismatch:
    keys = torch_checkpoint.key_names(plain) if isinstance(plain, dict) else []
    if keys == ["state", "param_groups"]:
        why = "it is the state of an optimizer, which belongs to a training and not to a model"
    elif is_empty:
        why = "its state dict is empty: it was saved of a module without parameters"
    elif keys:
        why = f"it is a dictionary with the keys {listed(keys)}"
    else:
        why = f"it is a {type(value).__name__}"
    return WeightsMismatch(
        f"`{path.name}` holds no state dict", why=why, fix="save module.state_dict() with torch.save"
    )


def _plain(value: object, depth: int) -> object:
    """Modules, which only trusted pickles hold, as their state dicts."""
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, Mapping) and depth >= 0:
        found = Read(
            {key: item if _is_extra(key) else _plain(item, depth - 1) for key, item in value.items()}
        )
        found.versions = getattr(value, "_metadata", None)
        return found
    return value


def _is_extra(key: object) -> bool:
    return isinstance(key, str) and key.rpartition(".")[2] == torch_checkpoint.EXTRA


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {next((line.strip() for line in str(error).splitlines() if line.strip()), '')[:300]}"
