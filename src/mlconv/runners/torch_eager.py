"""PyTorch in eager mode on the CPU: the reference of every conversion that starts from PyTorch.

Only a worker imports this module: it imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from mlconv.errors import UnknownOutput, UnsupportedType, listed, nearest
from mlconv.formats.refs import for_shell
from mlconv.runners.base import Feeds, Outputs
from mlconv.tensors import Axis, TensorSpec

Pack: TypeAlias = Callable[[Sequence[torch.Tensor]], tuple[tuple[Any, ...], dict[str, Any]]]
"""Puts the tensors of a signature, in its order, where `forward` wants them: positional and keyword arguments."""


class Flat(torch.nn.Module):
    """A module whose `forward` takes tensors alone, in the signature's order, and returns a tuple of tensors.

    Args:
        module: Any module, in eval mode; its parameters and buffers are this one's.
        pack: Where the tensors go.
        names: Of the outputs to return, in the module's order. Empty: all of them.
    """

    def __init__(self, module: torch.nn.Module, pack: Pack, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.module = module
        self.training = False
        self._pack, self._names = pack, frozenset(names)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.named(*tensors).values())

    def named(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by name. Numbers become tensors without axes; None is left out, as it is no output.

        Raises:
            UnsupportedType: An output that was asked for is neither a tensor nor a number.
        """
        return {name: as_tensor(name, leaf) for name, leaf in self.found(*tensors).items()}

    def found(self, *tensors: torch.Tensor) -> dict[str, object]:
        """The outputs by name, whatever they are."""
        args, kwargs = self._pack(tensors)
        every = leaves(self.module(*args, **kwargs))
        return {name: leaf for name, leaf in every if not self._names or name in self._names}


class TorchRunner:
    """A module in eval mode, run without gradients.

    Attributes:
        axes: The ranges of the dynamic axes that the source itself tells.
    """

    name = "torch-cpu"

    def __init__(self, flat: Flat, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.flat, self.inputs, self.outputs = flat, inputs, outputs
        self.axes: dict[str, Axis] = {}

    def run(self, feeds: Feeds) -> Outputs:
        """One run; the module sees copies, so that one that writes to its inputs changes no feed."""
        tensors = [to_torch(feeds[spec.name]) for spec in self.inputs]
        with torch.inference_mode():
            found = self.flat.named(*tensors)
        # output names were told apart from the inputs' once, when the signature was made
        return {spec.name: to_numpy(leaf) for spec, leaf in zip(self.outputs, found.values(), strict=True)}

    def spread(self, feeds: Feeds) -> Outputs | None:  # noqa: ARG002  one set of kernels
        return None

    def close(self) -> None:
        del self.flat


def leaves(value: object) -> Iterator[tuple[str, object]]:
    """The leaves of what a `forward` returned, named by where they stand.

    A single tensor is ``output``; an element of a tuple or list ``output_0``, ``output_1``...; the value of a
    dictionary, a named tuple or a dataclass (Hugging Face's outputs among them) bears its key; deeper levels are
    joined with ``_``: ``past_key_values_0_1``. None is no leaf.
    """
    taken: set[str] = set()
    for path, leaf in _walk(value, ()):
        words = path if path and isinstance(path[0], str) else ("output", *path)
        name = "_".join(_word(word) for word in words)
        while name in taken:
            name += "_"
        taken.add(name)
        yield name, leaf


def _walk(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index))
        return
    else:
        yield path, value
        return
    for key, item in items:
        yield from _walk(item, (*path, key))


def _word(part: str | int) -> str:
    """A key as part of a name: letters, digits, ``_``, ``.`` and ``-`` stay."""
    return "".join(char if char.isalnum() or char in "_.-" else "_" for char in str(part)) or "_"


def as_tensor(name: str, leaf: object) -> torch.Tensor:
    """A leaf as a dense tensor of numbers."""
    if isinstance(leaf, (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)):
        return torch.scalar_tensor(leaf, dtype=_number_dtype(leaf))  # type: ignore[arg-type]
    if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
        return leaf
    kind = (
        f"a tensor of layout {leaf.layout}" if isinstance(leaf, torch.Tensor) else f"a {type(leaf).__name__}"
    )
    raise UnsupportedType(
        f"output `{name}` is {kind}, and no runtime takes it as a tensor of numbers",
        fix="return tensors from forward, or name the outputs to keep with --outputs",
    )


def is_output(leaf: object) -> bool:
    """Whether ``as_tensor`` takes it."""
    numbers = (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)
    return isinstance(leaf, numbers) or (isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided)


def _number_dtype(leaf: object) -> torch.dtype:
    if isinstance(leaf, (bool, torch.SymBool)):
        return torch.bool
    return torch.float32 if isinstance(leaf, (float, torch.SymFloat)) else torch.int64


def choose(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The outputs that ``--outputs`` names, in the model's order; all where it names none.

    Raises:
        UnknownOutput: One that the model has not.
    """
    for name in wanted:
        if name not in names:
            close = nearest(name, names) or list(names)[:3]
            raise UnknownOutput(
                f"the model has no output `{name}`; it has {listed(names) or 'none'}",
                fix=f"--outputs {for_shell(','.join(close[:1]))}" if close else "leave --outputs out",
            )
    return tuple(name for name in names if not wanted or name in wanted)


def to_torch(array: np.ndarray) -> torch.Tensor:
    """A copy; bfloat16, which numpy knows by ml_dtypes alone, crosses by its bits."""
    if array.dtype.name == "bfloat16":
        return torch.tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.tensor(array)


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return np.asarray(tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.array(tensor.numpy())


def dtype_name(dtype: torch.dtype) -> str:
    """The name that numpy gives it: ``float32``, ``int64``, ``bool``, ``bfloat16``."""
    return str(dtype).removeprefix("torch.")
