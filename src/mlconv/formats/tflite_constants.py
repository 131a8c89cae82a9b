"""Constants of a TFLite model as numpy arrays."""

from __future__ import annotations

import itertools
import math

import numpy as np

from mlconv.errors import Corrupt, UnsupportedType
from mlconv.formats import tflite_schema as schema
from mlconv.formats.tflite_graph import Tensor

_PACKED = {"int4": 4, "uint4": 4, "int2": 2}


def array(tensor: Tensor) -> np.ndarray:
    """See ``Tensor.array``."""
    if tensor.data is None or tensor.is_sparse or tensor.dtype not in schema.BITS or "float8" in tensor.dtype:
        what = (
            "sparse " if tensor.is_sparse else "" if tensor.data is not None else "computed, not constant, "
        )
        raise UnsupportedType(
            f"tensor `{tensor.name}` cannot be read as an array: it is {what}{tensor.dtype}",
            fix="cut the model before it with --outputs",
        )
    shape = tuple(max(size, 0) for size in tensor.shape)
    count = math.prod(shape)
    needed = (count * schema.BITS[tensor.dtype] + 7) // 8
    if len(tensor.data) < needed:
        raise Corrupt(
            f"constant `{tensor.name}` has {len(tensor.data)} bytes, and its shape needs {needed}",
            fix="get the file again, or write it again",
        )
    return _elements(tensor.data[:needed], tensor.dtype, count).reshape(shape)


def strings(tensor: Tensor) -> list[bytes]:
    """A constant of strings: count, offsets, then the characters (tensorflow/lite/string_util.h).

    Raises:
        Corrupt: The offsets lead nowhere.
    """
    data = tensor.data if tensor.data is not None else memoryview(b"")
    count = int.from_bytes(data[:4], "little")
    if 4 * (count + 2) > len(data):
        raise Corrupt(
            f"the strings of `{tensor.name}` are broken", fix="get the file again, or write it again"
        )
    at = np.frombuffer(data[4 : 4 * (count + 2)], "<u4").tolist()
    if any(low > high for low, high in itertools.pairwise(at)) or at[-1] > len(data):
        raise Corrupt(
            f"the strings of `{tensor.name}` are broken", fix="get the file again, or write it again"
        )
    return [bytes(data[low:high]) for low, high in itertools.pairwise(at)]


def _elements(data: memoryview, dtype: str, count: int) -> np.ndarray:
    if dtype in _PACKED:
        return _unpacked(data, dtype, count)
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def _unpacked(data: memoryview, dtype: str, count: int) -> np.ndarray:
    """Elements of 4 or 2 bits, the first in the low bits; int8 or uint8 by their sign."""
    bits = _PACKED[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = ((np.frombuffer(data, np.uint8)[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[:count]
    if dtype.startswith("u"):
        return np.asarray(values, np.uint8)
    sign = np.int8(1 << bits - 1)
    return np.asarray((values.astype(np.int8) ^ sign) - sign, np.int8)
