"""The state dict in what ``torch.save`` wrote, wherever training code has put it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mlconv.formats import parameters
from mlconv.formats.pickle_names import Global, is_of_data
from mlconv.formats.pickle_reader import Made, Pickle, Tensor, is_small
from mlconv.tensors import TensorSpec

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "ema_state_dict", "state_dict_ema", "params_ema", "params", "model",
             "model_ema", "ema", "net", "network", "module", "weights")  # fmt: skip
"""Keys under which training code keeps the state dict, the more telling first."""

MODULE_KEYS = ("ema", "model", "module", "net", "network")
"""Where checkpoints keep a whole module; averaged weights are the ones that their authors run."""
_OF_TRAINING = ("optim", "sched", "scaler", "callback", "loop")
"""How keys of a training's own state begin, which may hold tensors and never weights."""

EXTRA = "_extra_state"
"""The name of what a module adds to a state dict by ``get_extra_state``."""
_DEPTH = 3
"""How many keys may lead to other weights of the same network."""

_MAX_NAMES = 1 << 25  # characters of the names of a module's tensors; a thousand layers have a million
_MAX_NESTED = 100  # modules within modules

T = TypeVar("T")


class StateDict(dict[str, T]):
    """The tensors of a state dict by name.

    Attributes:
        versions: What torch tells each module of the file by its path, its version before all; None where the file is
            silent.
        extra: What modules added by ``get_extra_state``, by name, be it a tensor or not.
    """

    def __init__(
        self, tensors: Mapping[str, T], versions: object = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(tensors)
        self.versions = (
            {path: told for path, told in versions.items() if isinstance(path, str)}
            if isinstance(versions, dict)
            else None
        )
        self.extra = dict(extra or {})


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[T]):
    """Weights in a file of ``torch.save``.

    Attributes:
        tensors: The state dict. Where a file holds several, each name begins with the key of its own.
        under: Keys that lead to the state dict; empty where the file is the state dict.
        beside: The other keys.
        rivals: Other state dicts that could have been meant too (averaged weights beside the last ones), by the keys that
            lead to each, joined by dots.
    """

    tensors: StateDict[T]
    under: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    rivals: dict[str, StateDict[T]] = field(default_factory=dict)


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
        key: StateDict(state)
        for key, value in _module_places(root).items()
        if (state := module_state(value)) is not None
    }
    if whole:
        if not modules:
            return None
        key = next(iter(whole))
        rest = {name: state for name, state in whole.items() if name != key} | _rivals(
            root, whole[key], Tensor
        )
        found_in = Checkpoint(whole[key], (key,) if key else (), _others(root, key) if key else (), rest)
        return found_in if all(map(is_readable, (found_in.tensors, *rest.values()))) else None
    found_in_dicts = find_state(root, Tensor)
    if found_in_dicts is None or not found_in_dicts.tensors:
        return None
    state = root
    for key in found_in_dicts.under:
        state = state[key]
    beside = [
        value
        for item in _once(state.values())
        for value in (item.values() if isinstance(item, dict) else (item,))
    ]
    return (
        found_in_dicts
        if all(map(is_readable, (found_in_dicts.tensors, *found_in_dicts.rivals.values())))
        and not any(map(_is_made_tensor, beside))
        else None
    )


def _module_places(root: object) -> dict[str, Made]:
    """Where a file keeps a whole module: it is one, or a dictionary that has one under a usual key."""
    if isinstance(root, Made):
        return {"": root}
    if not isinstance(root, dict):
        return {}
    return {key: root[key] for key in MODULE_KEYS if isinstance(root.get(key), Made)}


def module_state(made: Made) -> dict[str, Tensor] | None:
    """What ``state_dict()`` of a pickled module would give; None of an object that is no module.

    A module's ``__dict__`` holds its tensors under ``_parameters`` and ``_buffers`` and its parts under ``_modules``
    (torch/nn/modules/module.py). Subclasses that write their own ``state_dict`` are not followed. None too of a module
    that is a part of itself, whose ``state_dict()`` would not end, and of one that holds its parts so often that the names
    would be too many.
    """
    if _attributes(made) is None:
        return None
    try:
        return dict(_Parts().tensors(made, ""))
    except OverflowError:
        return None


def _attributes(made: Made) -> dict[Any, Any] | None:
    """The ``__dict__`` of a module; None of another object."""
    return next((state for state in made.states if isinstance(state, dict) and "_modules" in state), None)


class _Parts:
    """A walk over a module and its parts, each as often as it is held; an OverflowError where that would not end well."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.left = _MAX_NAMES

    def tensors(self, made: Made, prefix: str) -> Iterator[tuple[str, Tensor]]:
        attributes = _attributes(made)
        if attributes is None:
            return
        if id(made) in self.open or len(self.open) >= _MAX_NESTED:
            raise OverflowError
        self.open.add(id(made))
        parameters, buffers, parts = (
            found if isinstance(found := attributes.get(key), dict) else {}
            for key in ("_parameters", "_buffers", "_modules")
        )
        hidden = _items_of_set(attributes.get("_non_persistent_buffers_set"))
        self._spend(1 + len(prefix) + len(parameters) + len(buffers) + len(parts) + len(hidden))
        left_out = {key for key in hidden if isinstance(key, str)}
        own = {**parameters, **{key: item for key, item in buffers.items() if key not in left_out}}
        for key, item in own.items():
            if isinstance(item, Tensor) and isinstance(key, str):
                self._spend(len(prefix) + len(key))
                yield prefix + key, item
        for key, part in parts.items():
            if isinstance(part, Made) and isinstance(key, str):
                yield from self.tensors(part, f"{prefix}{key}.")
        self.open.discard(id(made))

    def _spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise OverflowError


def _items_of_set(value: object) -> list[Any]:
    """What a set holds; protocols below 4 write it as a call."""
    match value:
        case list() as items:
            return items
        case Made(by=Global(module="builtins", name="set"), args=(list() as items,)):
            return items
        case _:
            return []


def is_readable(tensors: dict[str, Tensor]) -> bool:
    """Whether every tensor lies in a storage as it is, and torch computes with its elements: it does not below a byte."""
    return all(
        tensor.storage is not None
        and not tensor.storage.is_view
        and not tensor.is_quantized
        and tensor.is_known
        and parameters.bits_of(tensor.dtype) >= 8
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
            state = _state(inner, kind)
            return Checkpoint(state, (key,), _others(root, key), _rivals(root, state, kind, inner))
        deeper = (
            next((name for name in _WRAPPERS if _is_state(inner.get(name), kind)), None)
            if isinstance(inner, dict)
            else None
        )
        if deeper is not None:
            state = _state(inner[deeper], kind)
            beside = (*_others(root, key), *_others(inner, deeper))
            return Checkpoint(state, (key, deeper), beside, _rivals(root, state, kind, inner[deeper]))
    if _is_state(root, kind) or not root:
        state = _state(root, kind)
        return Checkpoint(state, rivals=_rivals(root, state, kind))
    return _among(root, kind)


def _among(root: dict[Any, Any], kind: type[T]) -> Checkpoint[T] | None:
    """The dictionaries of tensors under keys that tell nothing: one as it is, several with their keys before the names."""
    several = {
        key: _state(inner, kind)
        for key, inner in root.items()
        if isinstance(key, str) and not key.startswith(_OF_TRAINING) and _is_state(inner, kind)
    }
    if len(several) == 1:
        ((key, tensors),) = several.items()
        return Checkpoint(tensors, (key,), _others(root, key), _rivals(root, tensors, kind, root[key]))
    merged = {f"{key}.{name}": tensor for key, tensors in several.items() for name, tensor in tensors.items()}
    extra = {
        f"{key}.{name}": item for key, tensors in several.items() for name, item in tensors.extra.items()
    }
    versions = {
        ".".join(filter(None, (key, path))): version
        for key, tensors in several.items()
        for path, version in (tensors.versions or {}).items()
    }
    return (
        Checkpoint(StateDict(merged, versions or None, extra), (), _others(root, *several))
        if several
        else None
    )


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
    inner = [item for item in _once(value.values()) if isinstance(item, dict)]
    return bool(_tensors(value, kind)) and not any(_tensors(item, kind) for item in inner)


def _tensors(state: dict[Any, Any], kind: type[T]) -> dict[str, T]:
    return {name: item for name, item in state.items() if isinstance(item, kind)}


def _state(state: dict[Any, Any], kind: type[T]) -> StateDict[T]:
    """A state dict, with what torch keeps beside its tensors."""
    extra = {name: item for name, item in state.items() if name.rpartition(".")[2] == EXTRA}
    tensors = {name: item for name, item in _tensors(state, kind).items() if name not in extra}
    return StateDict(tensors, getattr(state, "versions", None), extra)


def _rivals(root: object, own: StateDict[T], kind: type[T], taken: object = None) -> dict[str, StateDict[T]]:
    """Other state dicts of the same network, under any keys: at least half of the tensors have the same names."""
    names = {_bare(name) for name in own}
    return {
        path: tensors
        for path, tensors in _states(root, kind, taken, set())
        if 2 * len(names & {_bare(name) for name in tensors}) >= len(names)
    }


def _states(
    root: object, kind: type[T], taken: object, seen: set[tuple[int, int]], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, StateDict[T]]]:
    """Every state dict inside a dictionary but the one that was taken, and but those that are of a training.

    Args:
        seen: The dictionaries that were met, by identity and depth: one that many keys hold is told once.
    """
    for key, value in root.items() if isinstance(root, dict) else ():
        if not isinstance(key, str) or value is taken or key.startswith(_OF_TRAINING):
            continue
        if (id(value), len(path)) in seen:
            continue
        seen.add((id(value), len(path)))
        if _is_state(value, kind):
            yield ".".join((*path, key)), _state(value, kind)
        elif len(path) + 1 < _DEPTH:
            yield from _states(value, kind, taken, seen, (*path, key))


def _bare(name: str) -> str:
    return re.sub(r"^(module\.|_orig_mod\.)+", "", name)


def _others(root: dict[Any, Any], *keys: str) -> tuple[str, ...]:
    return tuple(key_names(key for key in root if key not in keys))


def key_names(keys: Iterable[object]) -> list[str]:
    """The keys of a dictionary that are text or numbers, as text."""
    return [str(key) for key in keys if isinstance(key, str) or is_small(key)]


def _once(values: Iterable[object]) -> Iterable[Any]:
    """Each value once, by identity: what a pickle refers to a thousand times need be looked at once."""
    return {id(value): value for value in values}.values()
