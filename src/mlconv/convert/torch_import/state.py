"""What a module holds at a moment: parameters, buffers, and the tensors and values in its attributes.

Used twice: to learn whether `forward` remembers something, and to leave a module of the caller's as it was.
"""

from __future__ import annotations

import contextlib
import types
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_MOST = 200_000
"""Objects that are looked at; a module that drags a data set along has more."""
_KINDS = ("_parameters", "_buffers", "_modules")
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A tensor with what it held: all of it, or the checksum of it."""

    name: str
    kind: str
    tensor: torch.Tensor
    value: torch.Tensor | None
    print: int | None

    def moved(self) -> bool:
        if self.value is None:
            return self.print is not None and checksum(self.tensor) != self.print
        return not _equal(self.tensor, self.value)


class Held:
    """The state of a module; its parameters as checksums unless they are asked for, as they are large.

    Args:
        whole: Whether parameters are kept too, so that ``rewind`` can put them back.
    """

    def __init__(self, module: torch.nn.Module, *, whole: bool = False) -> None:
        self._tensors: list[_Kept] = []
        self._containers: list[tuple[str, Any, Any]] = []
        if isinstance(module, torch.jit.ScriptModule):  # its attributes are its interpreter's
            for kind, named in (
                ("parameter", module.named_parameters()), ("buffer", module.named_buffers())
            ):  # fmt: skip
                for name, tensor in named:
                    self._keep(name, kind, tensor, whole)
            return
        for name, kind, value in _walk(module):
            if isinstance(value, torch.Tensor):
                self._keep(name, kind, value, whole)
            else:
                self._containers.append((name, value, value.copy()))

    def _keep(self, name: str, kind: str, tensor: torch.Tensor, whole: bool) -> None:
        readable = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        if not readable or torch.nn.parameter.is_lazy(tensor):
            return
        if kind == "parameter" and not whole:
            self._tensors.append(_Kept(name, kind, tensor, None, checksum(tensor)))
        else:
            with torch.no_grad():
                value = _plain(tensor).to("cpu", copy=True)
            self._tensors.append(_Kept(name, kind, tensor, value, None))

    def moved(self, *kinds: str) -> list[str]:
        """Names of the tensors that were written in place: of the kinds parameter, buffer and attribute."""
        return [kept.name for kept in self._tensors if kept.kind in kinds and kept.moved()]

    def rebound(self) -> list[str]:
        """Names of the attributes that are bound to something else, and of the containers that hold something else."""
        names: list[str] = []
        for path, container, was in self._containers:
            if isinstance(container, (dict, np.ndarray)) and not _same_content(container, was):
                names += _keys(path, container, was)
            elif not _same_content(container, was):
                names.append(path)
        return [name for name in dict.fromkeys(names) if name]

    def rewind(self) -> list[str]:
        """Put all of it back; the names of what could not be, as only its checksum was kept."""
        for _, container, was in self._containers:
            if _same_content(container, was):
                continue
            if isinstance(container, np.ndarray):
                container[...] = was
            elif isinstance(container, (dict, set)):
                container.clear()
                container.update(was)
            else:
                container.clear()
                container.extend(was)
        lost: list[str] = []
        for kept in self._tensors:
            if not kept.moved():
                continue
            if kept.value is None:
                lost.append(kept.name)
                continue
            with torch.inference_mode(kept.tensor.is_inference()), torch.no_grad():
                if kept.tensor.shape == kept.value.shape and kept.tensor.dtype == kept.value.dtype:
                    _plain(kept.tensor).copy_(kept.value)
                else:
                    kept.tensor.data = kept.value.to(kept.tensor.device, copy=True)
        return lost


def _walk(module: torch.nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and object of the tensors and of the mutable containers that a module reaches by its attributes."""
    seen: set[int] = set()
    stack: list[tuple[str, str, Any]] = [("", "attribute", module)]
    while stack and len(seen) < _MOST:
        name, kind, value = stack.pop()
        if id(value) in seen or isinstance(value, _OPAQUE):
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            yield name, kind, value
        elif isinstance(value, (dict, list, set, deque)):
            yield name, kind, value
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [(_joined(name, key), _kind(name, kind), item) for key, item in items]
        elif isinstance(value, np.ndarray):
            if value.dtype != object:
                yield name, kind, value
        elif isinstance(value, (tuple, frozenset)):
            stack += [(_joined(name, key), kind, item) for key, item in enumerate(value)]
        elif isinstance(value, torch.nn.Module) or _is_plain(value):
            own = vars(value)
            yield name, kind, own
            stack += [(_joined(name, key), "attribute", item) for key, item in own.items()]


def _is_plain(value: object) -> bool:
    """Whether its attributes are its state; a framework's own objects, such as generators and hooks, keep theirs elsewhere."""
    return isinstance(getattr(value, "__dict__", None), dict) and not type(value).__module__.startswith(
        ("torch", "builtins", "numpy", "threading", "weakref")
    )


def _kind(path: str, kind: str) -> str:
    last = path.rpartition(".")[2]
    return {"_parameters": "parameter", "_buffers": "buffer"}.get(last, kind)


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def told(names: list[str]) -> list[str]:
    """As users write them: without the dictionaries that PyTorch keeps them in."""
    return list(
        dict.fromkeys(".".join(part for part in name.split(".") if part not in _KINDS) for name in names)
    )


def _keys(path: str, now: Any, was: Any) -> list[str]:
    if isinstance(now, np.ndarray):
        return [path]
    return [_joined(path, key) for key in {**was, **now} if key not in now or not _is_same(now[key], was.get(key, now))]  # fmt: skip


def _same_content(now: Any, was: Any) -> bool:
    if isinstance(now, np.ndarray):
        return bool(now.shape == was.shape and now.tobytes() == was.tobytes())
    if len(now) != len(was):
        return False
    if isinstance(now, dict):
        return all(key in was and _is_same(value, was[key]) for key, value in now.items())
    if isinstance(now, set):
        return bool(now == was)
    return all(map(_is_same, now, was))


def _is_same(a: object, b: object) -> bool:
    """The same object, or an equal number or text."""
    return a is b or (
        type(a) is type(b) and isinstance(a, (bool, int, float, str, bytes)) and (a == b or a != a)
    )


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor, of a class of its own or not."""
    return tensor.detach().as_subclass(torch.Tensor)


def checksum(tensor: torch.Tensor) -> int:
    """Of the bytes of a tensor."""
    with torch.no_grad():
        flat = _plain(tensor).resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    a, b = _plain(a).cpu(), _plain(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    with torch.no_grad():
        return bool(torch.equal(a, b)) or bool(((a == b) | ((a != a) & (b != b))).all())


@contextlib.contextmanager
def same_draws(seed: int) -> Iterator[None]:
    """Whatever is drawn within is drawn again the next time; the generator goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
