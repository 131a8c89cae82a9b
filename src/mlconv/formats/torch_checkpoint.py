"""The state dict in what ``torch.save`` wrote, wherever training code has put it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlconv.formats.pickle_reader import Tensor
from mlconv.tensors import TensorSpec

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "ema_state_dict", "params_ema", "params", "model", "ema", "net",
             "network", "module", "weights")  # fmt: skip
"""Keys under which training code keeps the state dict, the more telling first."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[T]):
    """Weights in a file of ``torch.save``.

    Attributes:
        tensors: The state dict. Where a file holds several, each name begins with the key of its own.
        under: Keys that lead to the state dict; empty where the file is the state dict.
        beside: The other keys.
    """

    tensors: dict[str, T]
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def find_checkpoint(root: object) -> Checkpoint[Tensor] | None:
    """The state dict in a pickle that was read and not loaded; see ``find_state``."""
    return find_state(root, Tensor)


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
            return Checkpoint(_tensors(inner, kind), (key,), _others(root, key))
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
        if isinstance(key, str) and _is_state(inner, kind)
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


def _others(root: dict[Any, Any], *keys: str) -> tuple[str, ...]:
    return tuple(str(key) for key in root if isinstance(key, (str, int)) and key not in keys)
