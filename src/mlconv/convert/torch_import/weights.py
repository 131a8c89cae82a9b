"""State dicts: reading a file of weights without running it, and laying them into a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from mlconv.errors import (
    Corrupt,
    MissingFile,
    MlconvError,
    SourceDoesNotRun,
    UntrustedPickle,
    WeightsMismatch,
    listed,
    nearest,
)
from mlconv.formats import archive, mapped, safetensors_file, torch_archive, torch_checkpoint
from mlconv.formats import weights as weights_file

State: TypeAlias = "dict[str, torch.Tensor]"

_PREFIXES = (
    "module.", "_orig_mod.", "model.", "net.", "network.", "generator.", "teacher.", "student.", "ema.",
)  # fmt: skip
_BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
"""Counters that no inference reads; torch 0.4 and earlier had none, profilers and averaging add some."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a state dict was laid into a module: tensors of it that the module does not take, and their narrow dtypes."""

    left_out: tuple[str, ...]
    narrow: tuple[str, ...]


def read_state(path: Path, *, trusted: bool = False) -> State:
    """Every tensor of a file by name: safetensors, an index of several files, or what ``torch.save`` wrote.

    What a file is its content tells, as everywhere in ``formats``; its suffix tells nothing. Pickles are read with
    ``weights_only=True``; only where that refuses one and the user trusts it, it is run.

    Raises:
        MissingFile, Corrupt, ExternalDataMissing, PathEscape: The file or one that it names.
        UntrustedPickle: It holds more than tensors, and is not trusted.
        WeightsMismatch: It holds no state dict.
    """
    if not path.is_file():
        raise MissingFile(f"no file `{path}`", fix="name an existing file of weights")
    head = bytes(mapped.read_only(path)[:64])
    if weights_file.is_index(head):
        shards = [read_state(shard, trusted=trusted) for shard in weights_file.shards(path)]
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    if safetensors_file.is_safetensors(head):
        return _read_safetensors(path)
    return unwrap(_read_pickle(path, trusted=trusted), path)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    safetensors_file.read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Corrupt(
            f"`{path.name}` is no sound safetensors file", why=str(error), fix="fetch or save it again"
        ) from error


def _read_pickle(path: Path, *, trusted: bool) -> object:
    try:
        # by its name torch takes what is called .safetensors for such a file
        with torch.serialization.safe_globals(_harmless()), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # any kind, by where the file is broken or unsafe
        if not trusted:
            raise _refused(path, error) from error
    try:
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise SourceDoesNotRun(
            f"`{path.name}` needs a class that cannot be imported", why=_first_line(error),
            fix="run mlconv in the folder of the project that saved it, or save module.state_dict() there",
        ) from error  # fmt: skip
    except Exception as error:  # whatever the pickle's own code raises
        raise Corrupt(
            f"`{path.name}` cannot be read", why=_first_line(error), fix="fetch or save it again"
        ) from error


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


def unwrap(value: object, path: Path) -> State:
    """The state dict inside a checkpoint, the one of which `inspect` tells: see ``torch_checkpoint.find_state``.

    Raises:
        WeightsMismatch: There is none.
    """
    plain = _plain(value, depth=2)
    found = torch_checkpoint.find_state(plain, torch.Tensor)
    if found is None or not found.tensors:
        keys = list(plain) if isinstance(plain, dict) else []
        raise WeightsMismatch(
            f"`{path.name}` holds no state dict",
            why=f"it is a dictionary with the keys {listed([str(key) for key in keys])}"
            if keys
            else f"it is a {type(value).__name__}",
            fix="save module.state_dict() with torch.save",
        )
    return found.tensors


def _plain(value: object, depth: int) -> object:
    """Modules, which only trusted pickles hold, as their state dicts."""
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, Mapping) and depth:
        return {key: _plain(item, depth - 1) for key, item in value.items()}
    return value


def load_weights(module: torch.nn.Module, state: Mapping[str, torch.Tensor], name: str) -> Fit:
    """Lay a state dict into a module, under whichever of the usual prefixes it fits best.

    Raises:
        WeightsMismatch: Tensors that the module needs are missing or have another shape, or the file has
            others in their place; all are listed, with the nearest names.
    """
    own = module.state_dict()
    chosen = max(_renamings(state, own), key=lambda renamed: _matches(renamed, own))
    used = {id(tensor) for tensor in chosen.values()}
    left_out = tuple(key for key, tensor in state.items() if id(tensor) not in used)
    missing = [key for key in own if key not in chosen and not key.endswith(_BOOKKEEPING)]
    unexpected = [key for key in chosen if key not in own and not key.endswith(_BOOKKEEPING)]
    misshapen = [key for key in own if key in chosen and own[key].shape != chosen[key].shape]
    if missing or unexpected or misshapen:
        raise _mismatch(name, own, chosen, missing, unexpected, misshapen)
    module.load_state_dict({key: chosen[key] for key in own if key in chosen}, strict=False)
    narrow = {
        str(t.dtype).removeprefix("torch.")
        for t in chosen.values()
        if t.dtype in (torch.float16, torch.bfloat16)
    }
    return Fit(left_out, tuple(sorted(narrow)))


def _renamings(
    state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]
) -> Iterable[dict[str, torch.Tensor]]:
    """The state dict as it is, without each usual prefix and chain of them, and with the one that the module has."""
    seen = {""}
    waiting = [""]
    while waiting:
        prefix = waiting.pop(0)
        yield {key[len(prefix) :]: tensor for key, tensor in state.items() if key.startswith(prefix)}
        longer = [prefix + more for more in _PREFIXES if any(key.startswith(prefix + more) for key in state)]
        waiting += [more for more in longer if more not in seen]
        seen.update(longer)
    for prefix in _PREFIXES:
        if own and all(key.startswith(prefix) for key in own):
            yield {prefix + key: tensor for key, tensor in state.items()}


def _matches(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> int:
    return sum(key in own and own[key].shape == tensor.shape for key, tensor in state.items())


def _mismatch(
    name: str, own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], missing: list[str], unexpected: list[str],
    misshapen: list[str],
) -> WeightsMismatch:  # fmt: skip
    parts = []
    if missing:
        near = [(key, nearest(key, unexpected, 1)) for key in missing[:8]]
        told = ", ".join(
            f"`{key}`" + (f" (the file has `{close[0]}`)" if close else "") for key, close in near
        )
        parts.append(f"missing: {told}{_more(missing)}")
    if unexpected:
        parts.append(f"not in the module: {listed(unexpected)}")
    if misshapen:
        told = ", ".join(
            f"`{key}` {list(state[key].shape)} where the module has {list(own[key].shape)}"
            for key in misshapen[:8]
        )
        parts.append(f"of another shape: {told}{_more(misshapen)}")
    counts = [
        (len(missing), "missing"),
        (len(unexpected), "unexpected"),
        (len(misshapen), "of another shape"),
    ]
    return WeightsMismatch(
        f"`{name}` does not fit the module: " + ", ".join(f"{count} {word}" for count, word in counts if count),
        why="; ".join(parts), fix="build the module with the arguments that it was trained with: 'FILE.py:NAME(num_classes=10)'",
    )  # fmt: skip


def _more(names: list[str], limit: int = 8) -> str:
    return f" and {len(names) - limit} more" if len(names) > limit else ""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {next((line.strip() for line in str(error).splitlines() if line.strip()), '')[:300]}"
