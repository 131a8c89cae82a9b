"""Operands of several tensors in one layout: numpy's broadcasting, which TFLite shares, aligns axes from the last one.

In TFLite's layout ONNX does the same by itself. Channels first, the last axis comes second, so an operand of fewer axes
must get the others first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter


@dataclass(frozen=True, slots=True)
class Common:
    """The layout that the operands of one operator are taken in, and the number of the result's axes (0: not known)."""

    channels_first: bool
    rank: int


def common(e: Emitter, *indices: int) -> Common:
    """The layout that takes fewer elements through a Transpose."""
    dims = [e.dims(index) for index in indices]
    ranks = [0 if sizes is None else len(sizes) for sizes in dims]
    rank = 0 if None in dims else max(ranks)
    if rank < 3:
        return Common(False, rank)
    cost = {False: 0, True: 0}
    for index, sizes, own in zip(indices, dims, ranks, strict=True):
        if own > 2 and e.constant(index) is None:
            for channels_first in cost:
                if not e.has(index, channels_first=channels_first):
                    cost[channels_first] += int(
                        np.prod([size if isinstance(size, int) else 1 for size in sizes or ()])
                    )
    return Common(cost[True] < cost[False] or (cost[True] == cost[False] and e.layout(*indices)), rank)


def stored(e: Emitter, layout: Common, index: int) -> ir.Value:
    """The operand's codes or numbers."""
    if not layout.channels_first:
        return e.stored(index)
    own = e.rank(index)
    if own == layout.rank:
        return e.stored(index, channels_first=True)
    if all(size == 1 for size in e.dims(index) or ()):
        return e.stored(index)
    axes = layout.rank - own
    array = e.constant(index)
    if array is not None:
        codes = e.codes(index)
        if codes is not None:
            array = (array.astype(np.int64) + codes.shift).astype(codes.dtype)
        return e.const(
            np.moveaxis(array.reshape((1,) * axes + array.shape), -1, 1), e.called(index, channels_first=True)
        )
    widened = e.op("Unsqueeze", e.stored(index), e.ints(*range(axes)))
    return e.transpose(widened, to_channels_first=True)


def real(e: Emitter, layout: Common, index: int, scale: float | None = None) -> ir.Value:
    """What the operand stands for, as float32; ``scale`` as in ``Emitter.real``."""
    codes = e.codes(index)
    if not layout.channels_first or e.rank(index) == layout.rank:
        return e.real(index, channels_first=layout.channels_first, scale=scale)
    value = stored(e, layout, index)
    return value if codes is None else e.dequantize(value, codes, scale)


def numbers(e: Emitter, layout: Common, index: int) -> ir.Value:
    """An operand without codes, in a type that onnxruntime computes with: see ``computed_in``."""
    value = stored(e, layout, index)
    wanted = computed_in(e.tensor(index).dtype)
    return value if value.dtype in (wanted, ir.DataType.BOOL) else e.op("Cast", value, to=wanted)


def widened(e: Emitter, codes: ir.Value) -> ir.Value:
    """Codes of 8 bits as int32: before release 1.21 onnxruntime neither compares uint8 nor has Max and Min of it."""
    return e.op("Cast", codes, to=ir.DataType.INT32) if codes.dtype == ir.DataType.UINT8 else codes


def computed_in(dtype: str) -> ir.DataType:
    """One of float, double, int32 and int64, which onnxruntime has; narrower integers wrap when they are cast back."""
    match dtype:
        case "float64":
            return ir.DataType.DOUBLE
        case "int64" | "uint32" | "uint64":
            return ir.DataType.INT64
        case "int8" | "uint8" | "int16" | "uint16" | "int32" | "bool" | "int4" | "uint4" | "int2":
            return ir.DataType.INT32
        case _:
            return ir.DataType.FLOAT


def put_numbers(e: Emitter, layout: Common, index: int, value: ir.Value) -> None:
    """The result, in the tensor's own type."""
    wanted = (
        ir.DataType.BFLOAT16
        if e.tensor(index).dtype == "bfloat16"
        else ir.DataType.from_numpy(np.dtype(e.tensor(index).dtype))
    )
    made = value if value.dtype == wanted else e.op("Cast", value, to=wanted)
    e.put(index, made, channels_first=layout.channels_first)


def aligned(e: Emitter, a: int, b: int) -> bool:
    """Whether two operands have one shape, of more than one element."""
    dims = e.dims(a) or ()
    is_large = any(isinstance(size, int) and size > 1 for size in dims)
    return is_large and None not in dims and dims == e.dims(b)


def are_eight_bit(e: Emitter, indices: Sequence[int]) -> bool:
    return all((codes := e.codes(index)) is not None and codes.dtype == "uint8" for index in indices)


def are_sixteen_bit(e: Emitter, indices: Sequence[int]) -> bool:
    return all((codes := e.codes(index)) is not None and codes.dtype == "float32" for index in indices)
