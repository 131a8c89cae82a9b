"""The state dict in what ``torch.save`` wrote, wherever training code has put it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mlconv.formats.pickle_names import Global, is_of_data
from mlconv.formats.pickle_reader import Made, Pickle, Tensor
from mlconv.tensors import TensorSpec

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "ema_state_dict", "state_dict_ema", "params_ema", "params", "model",
             "model_ema", "ema", "net", "network", "module", "weights")  # fmt: skip
"""Keys under which training code keeps the state dict, the more telling first."""

MODULE_KEYS = ("ema", "model", "module", "net", "network")
"""Where checkpoints keep a whole module; averaged weights are the ones that their authors run."""
_OF_TRAINING = ("optim", "sched", "scaler", "callback", "loop")
"""How keys of a training's own state begin, which may hold tensors and never weights."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[T]):
    """Weights in a file of ``torch.save``.

    Attributes:
        tensors: The state dict. Where a file holds several, each name begins with the key of its own.
        under: Keys that lead to the state dict; empty where the file is the state dict.
        beside: The other keys.
        rivals: State dicts among these that could have been meant too (averaged weights beside the last ones), by key.
    """

    tensors: dict[str, T]
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    rivals: dict[str, dict[str, T]] = field(default_factory=dict)


def find_checkpoint(found: Pickle, *, modules: bool = False) -> Checkpoint[Tensor] | None:
    """The state dict in a pickle that was read and not loaded, whatever else stands in it; see ``find_state``.

    None where a part of it could not be had without loading: a tensor that code would put together, a quantized one.
    So is it where the pickle reaches for more than data (``is_of_data``), and where the file holds a whole module, which
    tells more than its weights.

    Args:
        modules: Take the weights of a whole module too, as its ``state_dict()`` would give them.
    """
    if found.is_plain:
        return find_state(found.root, Tensor)
    if not found.complete or not all(map(is_of_data, found.foreign)):
        return None
    root = found.root
    whole = {
        key: state
        for key, value in _module_places(root).items()
        if (state := module_state(value)) is not None
    }
    if whole:
        if not modules:
            return None
        key = next(iter(whole))
        rest = {name: state for name, state in whole.items() if name != key}
        found_in = Checkpoint(whole[key], (key,) if key else (), _others(root, key) if key else (), rest)
        return found_in if _is_readable(found_in.tensors) else None
    found_in_dicts = find_state(root, Tensor)
    if found_in_dicts is None or not found_in_dicts.tensors:
        return None
    state = root
    for key in found_in_dicts.under:
        state = state[key]
    beside = [
        value for item in state.values() for value in (item.values() if isinstance(item, dict) else (item,))
    ]
    return (
        found_in_dicts
        if _is_readable(found_in_dicts.tensors) and not any(map(_is_made_tensor, beside))
        else None
    )


def _module_places(root: object) -> dict[str, Made]:
    """Where a file keeps a whole module: it is one, or a dictionary that has one under a usual key."""
    if isinstance(root, Made):
        return {"": root}
    if not isinstance(root, dict):
        return {}
    return {key: root[key] for key in MODULE_KEYS if isinstance(root.get(key), Made)}


def module_state(made: Made, depth: int = 100) -> dict[str, Tensor] | None:
    """What ``state_dict()`` of a pickled module would give; None of an object that is no module.

    A module's ``__dict__`` holds its tensors under ``_parameters`` and ``_buffers`` and its parts under ``_modules``
    (torch/nn/modules/module.py). Subclasses that write their own ``state_dict`` are not followed.
    """
    state = next((state for state in made.states if isinstance(state, dict) and "_modules" in state), None)
    if state is None or depth == 0:
        return None
    parameters, buffers, parts = (state.get(key) for key in ("_parameters", "_buffers", "_modules"))
    left_out = _items_of_set(state.get("_non_persistent_buffers_set"))
    own = {**parameters} if isinstance(parameters, dict) else {}
    own |= {
        key: item
        for key, item in (buffers if isinstance(buffers, dict) else {}).items()
        if key not in left_out
    }
    tensors = {str(key): item for key, item in own.items() if isinstance(item, Tensor)}
    for name, part in (parts if isinstance(parts, dict) else {}).items():
        if isinstance(part, Made):
            inner = module_state(part, depth - 1) or {}
            tensors |= {f"{name}.{key}": item for key, item in inner.items()}
    return tensors


def _items_of_set(value: object) -> list[Any]:
    """What a set holds; protocols below 4 write it as a call."""
    match value:
        case list() as items:
            return items
        case Made(by=Global(module="builtins", name="set"), args=(list() as items,)):
            return items
        case _:
            return []


def _is_readable(tensors: dict[str, Tensor]) -> bool:
    """Whether every tensor lies in a storage as it is."""
    return all(
        tensor.storage is not None and not tensor.storage.is_view and not tensor.is_quantized
        for tensor in tensors.values()
    )


def _is_made_tensor(value: object) -> bool:
    """Whether a value is a tensor that only code could put together: of a subclass, sparse, nested."""
    return (
        isinstance(value, Made)
        and isinstance(value.by, Global)
        and value.by.module.startswith(("torch._utils", "torch._tensor", "torch.nn.parameter"))
    )


def find_state(root: object, kind: type[T]) -> Checkpoint[T] | None:
    """The state dict in what was saved: itself, under a usual key, or the dictionaries of tensors that it holds.

    Args:
        kind: What a tensor is: that of ``pickle_reader``, or torch's own where the file was loaded. Both give the same.
    """
    if not isinstance(root, dict):
        return None
    for key in _WRAPPERS:
        inner: Any = root.get(key)
        if _is_state(inner, kind):
            return Checkpoint(_tensors(inner, kind), (key,), _others(root, key), _rivals(root, key, kind))
        deeper = (
            next((name for name in _WRAPPERS if _is_state(inner.get(name), kind)), None)
            if isinstance(inner, dict)
            else None
        )
        if deeper is not None:
            return Checkpoint(
                _tensors(inner[deeper], kind), (key, deeper), (*_others(root, key), *_others(inner, deeper))
            )
    if _is_state(root, kind) or not root:
        return Checkpoint(_tensors(root, kind))
    return _among(root, kind)


def _among(root: dict[Any, Any], kind: type[T]) -> Checkpoint[T] | None:
    """The dictionaries of tensors under keys that tell nothing: one as it is, several with their keys before the names."""
    several = {
        key: _tensors(inner, kind)
        for key, inner in root.items()
        if isinstance(key, str) and not key.startswith(_OF_TRAINING) and _is_state(inner, kind)
    }
    if len(several) == 1:
        ((key, tensors),) = several.items()
        return Checkpoint(tensors, (key,), _others(root, key))
    merged = {f"{key}.{name}": tensor for key, tensors in several.items() for name, tensor in tensors.items()}
    return Checkpoint(merged, (), _others(root, *several)) if several else None


def spec(name: str, tensor: Tensor) -> TensorSpec:
    return TensorSpec(name, tensor.shape, tensor.dtype)


def distinct(tensors: dict[str, Tensor]) -> list[TensorSpec]:
    """The tensors, those that share their elements (tied weights) once."""
    once: dict[object, TensorSpec] = {}
    for name, tensor in tensors.items():
        place = (tensor.storage.key, tensor.offset, tensor.shape) if tensor.storage else name
        once.setdefault(place, spec(name, tensor))
    return list(once.values())


def dtype_counts(specs: list[TensorSpec]) -> str:
    """``float32 x 12, int64 x 2``."""
    counts = Counter(tensor.dtype for tensor in specs)
    return ", ".join(f"{dtype} x {number}" for dtype, number in counts.most_common())


def _is_state(value: object, kind: type[Any]) -> bool:
    """Whether a dictionary has tensors by name. Extra state may stand beside them, but no other dictionary of tensors."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    inner = [item for item in value.values() if isinstance(item, dict)]
    return bool(_tensors(value, kind)) and not any(_tensors(item, kind) for item in inner)


def _tensors(state: dict[Any, Any], kind: type[T]) -> dict[str, T]:
    return {name: item for name, item in state.items() if isinstance(item, kind)}


def _rivals(root: dict[Any, Any], taken: str, kind: type[T]) -> dict[str, dict[str, T]]:
    """Other state dicts of the same network: at least half of the tensors have the same names."""
    own = {_bare(name) for name in _tensors(root[taken], kind)}
    found = {
        key: _tensors(value, kind)
        for key, value in root.items()
        if key != taken and isinstance(key, str) and _is_state(value, kind)
    }
    return {
        key: tensors
        for key, tensors in found.items()
        if 2 * len(own & {_bare(name) for name in tensors}) >= len(own)
    }


def _bare(name: str) -> str:
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


def _others(root: dict[Any, Any], *keys: str) -> tuple[str, ...]:
    return tuple(str(key) for key in root if isinstance(key, (str, int)) and key not in keys)
