"""State dicts: reading a file of weights without running it, and laying them into a module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from mlconv.errors import (
    Corrupt,
    ExternalDataMissing,
    MissingFile,
    PathEscape,
    UntrustedPickle,
    WeightsMismatch,
    listed,
    nearest,
)

State: TypeAlias = "dict[str, torch.Tensor]"

_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "ema_state_dict", "params_ema", "params", "model", "ema", "net", "network",
    "module", "weights", "generator", "teacher", "student",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.", "ema.")
_BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
"""Counters that no inference reads; torch 0.4 and earlier had none, profilers and averaging add some."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a state dict was laid into a module: tensors of it that the module does not take, and their narrow dtypes."""

    left_out: tuple[str, ...]
    narrow: tuple[str, ...]


def read_state(path: Path, *, trusted: bool = False) -> State:
    """Every tensor of a file by name: ``.safetensors``, an index of several, or what ``torch.save`` wrote.

    Pickles are read with ``weights_only=True``; only where that refuses one and the user trusts it, it is run.

    Raises:
        MissingFile, Corrupt, ExternalDataMissing, PathEscape: The file or one that it names.
        UntrustedPickle: It holds more than tensors, and is not trusted.
    """
    if not path.exists():
        raise MissingFile(f"no file `{path}`", fix="--weights with the path of an existing file")
    if path.name.endswith(".json"):
        return _read_index(path, trusted=trusted)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return unwrap(_read_pickle(path, trusted=trusted), path)


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise Corrupt(
            f"`{path.name}` is no sound safetensors file", why=str(error), fix="fetch or save it again"
        ) from error


def _read_index(path: Path, *, trusted: bool) -> State:
    """The shards that an index names; each lies beside it."""
    try:
        shards = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Corrupt(
            f"`{path.name}` is no index of weights", why=str(error), fix="fetch it again"
        ) from error
    state: State = {}
    for shard in shards:
        file = path.parent / str(shard)
        if Path(str(shard)).name != str(shard):
            raise PathEscape(
                f"`{path.name}` names the file `{shard}`, outside its folder", fix="fetch the index again"
            )
        if not file.exists():
            raise ExternalDataMissing(
                f"`{path.name}` names `{shard}`, which is not there", fix=f"put {shard} beside {path.name}"
            )
        state |= read_state(file, trusted=trusted)
    return state


def _read_pickle(path: Path, *, trusted: bool) -> object:
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        Exception
    ) as error:  # UnpicklingError, RuntimeError or EOFError, by where the file is broken or unsafe
        if trusted:
            return torch.load(path, map_location="cpu", weights_only=False)
        if "weights_only" in str(error) or "WeightsUnpickler" in str(error):
            raise UntrustedPickle(
                f"`{path.name}` holds a pickle that would run code", why=_first_line(error),
                fix="--trust-pickle, if you know who made the file; or save the state dict as .safetensors",
            ) from error  # fmt: skip
        raise Corrupt(
            f"`{path.name}` cannot be read", why=_first_line(error), fix="fetch or save it again"
        ) from error


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
    """The state dict inside a checkpoint: itself, or under one of the usual keys, two levels deep.

    Raises:
        WeightsMismatch: There is none.
    """
    found = _find(value, depth=2)
    if found is None:
        keys = list(value) if isinstance(value, Mapping) else []
        raise WeightsMismatch(
            f"`{path.name}` holds no state dict",
            why=f"it is a dictionary with the keys {listed([str(key) for key in keys])}"
            if keys
            else f"it is a {type(value).__name__}",
            fix="save module.state_dict() with torch.save",
        )
    return found


def _find(value: object, depth: int) -> State | None:
    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if not isinstance(value, Mapping) or not value:
        return None
    tensors = {str(key): item for key, item in value.items() if isinstance(item, torch.Tensor)}
    if len(tensors) * 2 > len(value):
        return tensors
    if depth:
        for key in (*(name for name in _WRAPPERS if name in value), *value):
            found = _find(value[key], depth - 1)
            if found is not None:
                return found
    return tensors or None


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
