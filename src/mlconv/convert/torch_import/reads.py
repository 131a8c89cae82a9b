"""Whether a trace hangs on the values of its inputs: the places where Python asked for one.

The tracer warns of every tensor that becomes a Python value, be it an input's, a parameter's or a size (sizes are
tensors while it runs). Here each tensor that was computed from an input is followed, through views and writes in place,
by its storage; sizes and parameters are not, so what is left are the values that another input would change.
Operators that take a tensor for a number (``x[i]``, ``torch.arange(n)``) are recorded by the tracer and are no reads,
nor is anything inside TorchScript, which keeps its branches.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlconv.convert.torch_import.failures import own_line

_OF_THE_SHAPE_ALONE = ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros")
_COPIES_OUT = frozenset({"numpy", "tolist", "__array__", "__dlpack__"})
"""Methods that hand out values without an operator that could be seen."""


def reads_of_inputs(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[str]:
    """The lines at which a trace asks for a value that was computed from an input; empty where it does not.

    A line that lies in no code of the user's is told as an empty text.

    Raises:
        Exception: Whatever tracing raises.
    """
    followed = _Followed()
    probe = _Probe(module, followed)
    with warnings.catch_warnings(action="ignore"), torch.no_grad(), _Calls(followed), _Operators(followed):
        torch.jit.trace(probe, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    return list(dict.fromkeys(followed.lines))


class _Followed:
    """The storages of tensors that hold what inputs decide, and the lines that read them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pending = False  # an operator has given a value out, within the call that is running
        self.depth = 0
        self._storages: set[StorageWeakRef] = set()

    def add(self, values: object) -> None:
        self._storages.update(_storage(tensor) for tensor in _tensors(values))

    def any_in(self, values: object) -> bool:
        return any(_storage(tensor) in self._storages for tensor in _tensors(values))

    def read(self) -> None:
        self.lines.append(own_line(traceback.extract_stack()) or "")


class _Probe(torch.nn.Module):
    """Its tensors are those that the tracer made of the inputs."""

    def __init__(self, module: torch.nn.Module, followed: _Followed) -> None:
        super().__init__()
        self.module = module
        self.training = False
        self._followed = followed

    def forward(self, *tensors: torch.Tensor) -> Any:
        self._followed.add(tensors)
        return self.module(*tensors)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows values from an operator's arguments to what it returns and writes."""

    def __init__(self, followed: _Followed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._followed = followed

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        kwargs = kwargs or {}
        from_input = self._followed.any_in((args, kwargs))
        found = func(*args, **kwargs)
        name = _schema(func).name.rpartition("::")[2]
        if not from_input or name.endswith("_like") or name in _OF_THE_SHAPE_ALONE:
            return found
        self._followed.add((found, _written(func, args, kwargs)))
        # the tracer's state is hidden inside operators that it records, and inside TorchScript
        if not _tensors(found) and _schema(func).returns and _is_tracing():
            if self._followed.depth:
                self._followed.pending = True
            else:
                self._followed.read()
        return found


class _Calls(TorchFunctionMode):
    """Tells a call from Python that returns a value from one that returns a tensor, which the tracer records."""

    def __init__(self, followed: _Followed) -> None:
        super().__init__()
        self._followed = followed

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        followed, kwargs = self._followed, kwargs or {}
        copies = getattr(func, "__name__", "") in _COPIES_OUT and followed.any_in(args)
        outer, followed.pending = followed.pending, False
        followed.depth += 1
        try:
            found = func(*args, **kwargs)
            # a text is for people: messages and logs
            if copies or (followed.pending and not _tensors(found) and not isinstance(found, str)):
                followed.read()
        finally:
            followed.depth -= 1
            followed.pending = outer
        return found


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[object]:
    """The arguments that an operator writes to."""
    named = {argument.name: argument for argument in _schema(func).arguments}
    given = [
        *zip(_schema(func).arguments, args, strict=False),
        *((named[key], kwargs[key]) for key in kwargs),
    ]
    return [value for argument, value in given if argument.alias_info and argument.alias_info.is_write]


def _tensors(values: object) -> list[torch.Tensor]:
    return [
        leaf
        for leaf in tree_leaves(values)
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided
    ]


def _storage(tensor: torch.Tensor) -> StorageWeakRef:
    """A reference that stays distinct after the storage is gone."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _schema(func: Any) -> Any:
    return func._schema  # noqa: SLF001  OpOverload has no public one


def _is_tracing() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
