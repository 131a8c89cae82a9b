"""The state dict in what ``torch.save`` wrote, wherever training code has put it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from mlconv.formats.pickle_reader import Tensor
from mlconv.tensors import TensorSpec

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "ema_state_dict", "params_ema", "params", "model", "ema", "net",
             "network", "module", "weights")  # fmt: skip
"""Keys under which training code keeps the state dict, the more telling first."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights in a file of ``torch.save``.

    Attributes:
        tensors: The state dict. Where a file holds several, each name begins with the key of its own.
        under: Keys that lead to the state dict; empty where the file is the state dict.
        beside: The other keys.
    """

    tensors: dict[str, Tensor]
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def find_checkpoint(root: object) -> Checkpoint | None:
    """The state dict in what was saved: itself, under a usual key, or the dictionaries of tensors that it holds."""
    if not isinstance(root, dict):
        return None
    for key in _WRAPPERS:
        inner: Any = root.get(key)
        if _is_state(inner):
            return Checkpoint(_tensors(inner), (key,), _others(root, key))
        deeper = (
            next((name for name in _WRAPPERS if _is_state(inner.get(name))), None)
            if isinstance(inner, dict)
            else None
        )
        if deeper is not None:
            return Checkpoint(
                _tensors(inner[deeper]), (key, deeper), (*_others(root, key), *_others(inner, deeper))
            )
    if _is_state(root) or not root:
        return Checkpoint(_tensors(root))
    several = {key: inner for key, inner in root.items() if isinstance(key, str) and _is_state(inner)}
    if len(several) == 1:
        key, inner = next(iter(several.items()))
        return Checkpoint(_tensors(inner), (key,), _others(root, key))
    if several:
        merged = {
            f"{key}.{name}": tensor
            for key, inner in several.items()
            for name, tensor in _tensors(inner).items()
        }
        return Checkpoint(merged, (), _others(root, *several))
    return None


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


def _is_state(value: object) -> bool:
    """Whether a dictionary has tensors by name. Extra state may stand beside them, but no other dictionary of tensors."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return False
    inner = [item for item in value.values() if isinstance(item, dict)]
    return _has_tensor(value) and not any(_has_tensor(item) for item in inner)


def _has_tensor(value: dict[Any, Any]) -> bool:
    return any(isinstance(item, Tensor) for item in value.values())


def _tensors(state: dict[Any, Any]) -> dict[str, Tensor]:
    return {name: item for name, item in state.items() if isinstance(item, Tensor)}


def _others(root: dict[Any, Any], *keys: str) -> tuple[str, ...]:
    return tuple(str(key) for key in root if isinstance(key, (str, int)) and key not in keys)
