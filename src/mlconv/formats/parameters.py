"""What counts as a parameter, for formats that store weights by name."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mlconv.tensors import TensorSpec

_NEVER_WEIGHTS = frozenset({"bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "str"})
"""Counters, indices, masks and seeds. Narrower integers are quantized weights."""

_BITS = {"bool": 8, "complex32": 32, "complex64": 64, "complex128": 128}


def count(tensors: Iterable[TensorSpec]) -> int:
    """Elements of the tensors that are float, or integers narrow enough to be quantized weights."""
    return sum(elements(tensor.shape) for tensor in tensors if tensor.dtype not in _NEVER_WEIGHTS)


def elements(shape: Iterable[int | str | None] | None) -> int:
    """The product of the sizes; an axis whose size is not told counts as 1."""
    return math.prod(size for size in shape or () if isinstance(size, int))


def bytes_of(elements: int, dtype: str) -> int:
    """Bytes that a number of elements takes, packed."""
    return (elements * bits_of(dtype) + 7) // 8


def bits_of(dtype: str) -> int:
    """Bits that one element takes: 4 of ``uint4`` and of ``float4_e2m1fn``."""
    digits = "".join(char for char in dtype.partition("_")[0] if char.isdigit())
    return _BITS.get(dtype, int(digits or 8))
