"""What operators that move values share: axes in either layout, folding, operands as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import Dims, NotExpressible
from mlconv.formats.tflite_graph import Operator

T = TypeVar("T")

FOLDED_BYTES = 1 << 16
"""A fold may make its operands larger up to here; beyond, the operator is written, so that files stay as small as the source."""

SHAPE_ELEMENTS = 64
"""Tensors of integers up to this size are looked at as shapes."""

LAST, FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
"""Ends of a Slice that are behind the last element, and before the first."""


def place(axis: int, rank: int, channels_first: bool = False) -> int:
    """Where an axis of TFLite's layout, counted from the end if negative, stands in the ONNX form."""
    axis = axis + rank if axis < 0 else axis
    if not 0 <= axis < max(rank, 1):
        raise NotExpressible(f"axis {axis} of a tensor with {rank}")
    if not channels_first or rank < 3 or axis == 0:
        return axis
    return 1 if axis == rank - 1 else axis + 1


def arranged(by_axis: Sequence[T], channels_first: bool) -> list[T]:
    """One value for each axis of TFLite's layout, in the order of the ONNX form."""
    values = list(by_axis)
    return [values[0], values[-1], *values[1:-1]] if channels_first and len(values) > 2 else values


def dims_of(e: Emitter, index: int) -> Dims:
    """The sizes of a tensor whose rank is known.

    Raises:
        NotExpressible: It is not.
    """
    dims = e.dims(index)
    if dims is None:
        raise NotExpressible("the number of its axes is known only while the model runs")
    return dims


def shape_of(e: Emitter, index: int) -> ir.Value:
    """The sizes in TFLite's layout as int64, without asking for a form in that layout."""
    dims = e.dims(index)
    if dims is not None and all(isinstance(dim, int) for dim in dims):
        return e.ints(*(int(dim) for dim in dims if isinstance(dim, int)))
    channels_first = e.layout(index)
    sizes = e.op("Shape", e.stored(index, channels_first=channels_first))
    rank = e.rank(index)
    return (
        e.op("Gather", sizes, e.ints(*(place(axis, rank, True) for axis in range(rank))))
        if channels_first
        else sizes
    )


def moved(e: Emitter, index: int, like: int, *, channels_first: bool = False) -> ir.Value:
    """An operand whose elements an operator copies into tensor ``like``, byte by byte as LiteRT's kernels do.

    LiteRT copies codes whatever the scales say; only the way in which the two tensors are stored may differ here.
    """
    own, wanted = e.codes(index), e.codes(like)
    if e.tensor(index).dtype == "float32" and own is None:
        return e.real(index, channels_first=channels_first)  # a folded constant may be stored in float16
    value = e.stored(index, channels_first=channels_first)
    if (own.dtype, own.shift) == (wanted.dtype, wanted.shift) if own and wanted else own is wanted:
        return value
    shift = (wanted.shift if wanted else 0) - (own.shift if own else 0)
    if shift:
        value = e.op("Add", e.op("Cast", value, to=ir.DataType.INT32), e.const(np.int32(shift)))
    dtype = wanted.dtype if wanted else e.tensor(like).dtype
    return e.op("Cast", value, to=ir.DataType.from_numpy(np.dtype(dtype)))


def scalar(e: Emitter, index: int, like: int) -> ir.Value:
    """One number that is copied into tensor ``like``, without axes."""
    return flat(e, moved(e, index, like), ())


def flat(e: Emitter, value: ir.Value, sizes: Sequence[int] = (-1,)) -> ir.Value:
    """A small value with other axes; a constant stays one."""
    if value.const_value is not None:
        return e.const(value.const_value.numpy().reshape(tuple(sizes)))
    return value if sizes_of(value) == list(sizes) else e.reshape(value, sizes)


def joined(e: Emitter, *vectors: ir.Value) -> ir.Value:
    """Vectors of sizes one after the other; constants stay one."""
    arrays = [vector.const_value.numpy() for vector in vectors if vector.const_value is not None]
    return (
        e.const(np.concatenate(arrays)) if len(arrays) == len(vectors) else e.op("Concat", *vectors, axis=0)
    )


def as_int64(e: Emitter, index: int) -> ir.Value:
    """A tensor of integers as ONNX wants its shapes and indices."""
    found = e.constant(index)
    if found is not None:
        return e.const(found.astype(np.int64))
    value = e.stored(index)
    return value if value.dtype == ir.DataType.INT64 else e.op("Cast", value, to=ir.DataType.INT64)


def through(
    e: Emitter,
    via: ir.DataType,
    lacking: frozenset[ir.DataType],
    write: Callable[..., ir.Value],
    *operands: ir.Value,
) -> ir.Value:
    """``write(*operands)`` in another type, where onnxruntime's kernel lacks the operands' own; exact."""
    own = operands[0].dtype
    if own not in lacking or own is None:
        return write(*operands)
    return e.op("Cast", write(*(e.op("Cast", operand, to=via) for operand in operands)), to=own)


def known(e: Emitter, index: int) -> np.ndarray | None:
    """``Emitter.elements``, or all None for any other small tensor of integers whose size is known."""
    found = e.elements(index) if index >= 0 else None
    if found is not None or index < 0 or e.tensor(index).dtype not in ("int32", "int64"):
        return found
    dims = e.dims(index)
    if (
        dims is None
        or len(dims) > 1
        or not all(isinstance(dim, int) and dim <= SHAPE_ELEMENTS for dim in dims)
    ):
        return None
    return np.full([int(dim) for dim in dims if isinstance(dim, int)], None, object)


def folded(
    e: Emitter, op: Operator, operands: Sequence[int], compute: Callable[..., Any], growth: float = 1.0
) -> bool:
    """Compute the outputs now from operands that are constant, or known in part.

    Args:
        compute: Takes the operands as numpy has them, and gives one array, or one for each output in a tuple.
        growth: How many times as large as the operands the outputs are: nothing is computed that is too large.

    Returns:
        Whether all outputs are constants now, and nothing is left to write.
    """
    arrays = [known(e, index) for index in operands]
    present = [array for array in arrays if array is not None]
    if len(present) < len(arrays) or all(
        array.dtype == object and all(x is None for x in array.flat) for array in present
    ):
        return False
    limit = max(FOLDED_BYTES, sum(array.nbytes for array in present))
    if growth > 1 and growth * sum(array.nbytes for array in present) > limit:
        return False
    computed = compute(*present)
    results = [  # an element of an array of objects is none
        result if isinstance(result, np.ndarray) else np.asarray(result, present[0].dtype)
        for result in (computed if isinstance(computed, tuple) else (computed,))
    ]
    if sum(result.nbytes for result in results) > limit:
        return False
    constant = True
    for index, result in zip(op.outputs, results, strict=True):
        if result.dtype != object:
            e.put_constant(index, result)
        elif all(isinstance(element, (int, np.integer)) for element in result.flat):
            e.put_constant(index, result.astype(e.tensor(index).dtype))
        else:
            e.put_elements(index, result)
            constant = False
    return constant


def sizes_of(value: ir.Value) -> list[int | str | None] | None:
    """The sizes in the order of the ONNX form; None where not even the rank is known."""
    return (
        None if value.shape is None else [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    )


def settled(value: ir.Value, dims: Sequence[int | str | None]) -> ir.Value:
    """The value with sizes that onnx's inference could not tell, in the order of the ONNX form."""
    told = sizes_of(value) or [None] * len(dims)
    if len(told) == len(dims):
        value.shape = ir.Shape(
            [known if known is not None else dim for known, dim in zip(told, dims, strict=True)]
        )
    return value
