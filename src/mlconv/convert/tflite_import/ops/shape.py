"""Other axes for the same elements: RESHAPE, SQUEEZE, EXPAND_DIMS, TRANSPOSE."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import Dims, NotExpressible
from mlconv.convert.tflite_import.ops.moves import as_int64, dims_of, folded, known, moved, place, settled
from mlconv.formats.tflite_graph import Operator


def reshape(e: Emitter, op: Operator) -> None:
    """The target is the second operand, if that has one axis, else an option (tensorflow/lite/kernels/reshape.cc)."""
    x, out = op.inputs[0], op.outputs[0]
    target = _target(e, op)
    whole = _whole(target) if target is not None else None
    if whole is not None and folded(e, op, [x], lambda array: array.reshape(whole)):
        return
    dims = e.dims(x)
    wanted = _completed(dims, target) if target is not None else None
    if wanted is not None and _static(dims, wanted):
        reshaped(e, x, out, wanted)
        return
    rank = len(wanted) if wanted is not None else _length(e, op)
    value = e.op("Reshape", moved(e, x, out), as_int64(e, op.inputs[1]))
    e.put(out, settled(value, wanted if wanted is not None else [None] * rank))


def squeeze(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    dims, option = dims_of(e, x), op.option("squeeze_dims", ())
    axes = {place(int(axis), len(dims)) for axis in option} if isinstance(option, tuple) else set()
    if not axes:
        if not all(isinstance(dim, int) for dim in dims):
            raise NotExpressible("which axes it drops is decided while the model runs")
        axes = {axis for axis, dim in enumerate(dims) if dim == 1}
    if folded(
        e,
        op,
        [x],
        lambda array: array.reshape([dim for axis, dim in enumerate(array.shape) if axis not in axes]),
    ):
        return
    kept = [dim for axis, dim in enumerate(dims) if axis not in axes]
    if _static(dims, kept):
        reshaped(e, x, out, kept)
    else:
        e.put(out, e.op("Squeeze", moved(e, x, out), e.ints(*sorted(axes))))


def expand_dims(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    dims = dims_of(e, x)
    (axis,) = e.numbers(op.inputs[1], "axis")
    axis = place(axis, len(dims) + 1)
    if folded(e, op, [x], lambda array: np.expand_dims(array, axis)):
        return
    wanted = [*dims[:axis], 1, *dims[axis:]]
    if _static(dims, wanted):
        reshaped(e, x, out, wanted)
    else:
        e.put(out, e.op("Unsqueeze", moved(e, x, out), e.ints(axis)))


def transpose(e: Emitter, op: Operator) -> None:
    """One that only takes a tensor into the other layout writes nothing: the other form of the input is the output."""
    x, out = op.inputs[0], op.outputs[0]
    perm = e.numbers(op.inputs[1], "order of axes")
    rank = len(perm)
    perm = [place(axis, rank) for axis in perm]
    if folded(e, op, [x], lambda array: array.transpose(perm)):
        return
    own, given = _axes(rank, channels_first=e.layout(x)), e.layout(x)
    for source in [given] if rank < 3 or not e.has(x, channels_first=not given) else [given, not given]:
        for result in (False, True) if rank > 2 else (False,):
            order = [perm[axis] for axis in _axes(rank, channels_first=result)]
            if order == _axes(rank, channels_first=source):
                e.put(out, moved(e, x, out, channels_first=source), channels_first=result)
                return
    e.put(
        out,
        e.op("Transpose", moved(e, x, out, channels_first=given), perm=[own.index(axis) for axis in perm]),
    )


def reshaped(e: Emitter, x: int, out: int, wanted: Sequence[int | str | None]) -> None:
    """Tensor ``out`` is ``x`` with these sizes, of which one may be unknown; without a Transpose where the elements lie in order."""
    sizes = [size for size in wanted if isinstance(size, int)]
    if 0 in sizes and len(sizes) == len(wanted):  # ONNX's Reshape takes 0 for "as it is" before opset 14
        e.put_constant(out, np.zeros(sizes, e.tensor(out).dtype))
        return
    dims, channels_first = e.dims(x), e.layout(x)
    if (
        channels_first
        and dims is not None
        and len(wanted) > 2
        and _keeps_borders(dims, wanted)
        and not _same_order(dims)
    ):
        value = _reshape(e, moved(e, x, out, channels_first=True), [wanted[0], wanted[-1], *wanted[1:-1]])
        e.put(out, value, channels_first=True)
        return
    source = moved(e, x, out, channels_first=channels_first and dims is not None and _same_order(dims))
    e.put(out, _reshape(e, source, wanted))
    if len(wanted) > 2 and _same_order(wanted):  # both forms: one of them has no user, and goes
        e.put(out, _reshape(e, source, [wanted[0], wanted[-1], *wanted[1:-1]]), channels_first=True)


def _static(dims: Dims | None, wanted: Sequence[int | str | None]) -> bool:
    """Whether constants tell all sizes to ONNX's Reshape: one may be open, beside a batch that is kept."""
    kept = (
        bool(dims and wanted)
        and isinstance(wanted[0], str)
        and 0 not in wanted
        and dims is not None
        and dims[0] == wanted[0]
    )
    return sum(not isinstance(size, int) for size in wanted) - kept <= 1


def _reshape(e: Emitter, value: ir.Value, wanted: Sequence[int | str | None]) -> ir.Value:
    sizes = [size if isinstance(size, int) else -1 for size in wanted]
    if value.shape is not None and -1 not in sizes and list(value.shape) == sizes:
        return value
    if sizes.count(-1) > 1:
        return settled(e.op("Reshape", value, e.ints(0, *sizes[1:])), wanted)  # 0: the batch as it is
    return settled(e.reshape(value, sizes), wanted)


def _keeps_borders(dims: Dims, wanted: Sequence[int | str | None]) -> bool:
    """Whether only axes between the batch and the channels are merged or split."""
    return len(dims) > 2 and dims[0] is not None and (dims[0], dims[-1]) == (wanted[0], wanted[-1])


def _same_order(dims: Sequence[int | str | None]) -> bool:
    """Whether the elements lie in one order in both layouts: no channels, or nothing between batch and channels."""
    return dims[-1] == 1 or all(dim == 1 for dim in dims[1:-1])


def _target(e: Emitter, op: Operator) -> np.ndarray | None:
    """The sizes asked for, as far as they are known; None where not even their number is."""
    if len(op.inputs) > 1 and op.inputs[1] >= 0:
        dims = e.dims(op.inputs[1])
        if dims is not None and len(dims) == 1 and e.tensor(op.inputs[1]).dtype == "int32":
            return known(e, op.inputs[1])
    option = op.option("new_shape", ())
    shape = option if isinstance(option, tuple) else ()
    return np.array([] if shape == (0,) else shape, np.int64)  # [0] is how old files write a scalar


def _length(e: Emitter, op: Operator) -> int:
    dims = e.dims(op.inputs[1])
    if dims is None or not isinstance(dims[0], int):
        raise NotExpressible("the number of its axes is known only while the model runs")
    return dims[0]


def _whole(target: np.ndarray) -> list[int] | None:
    return (
        [int(size) for size in target]
        if all(isinstance(size, (int, np.integer)) for size in target)
        else None
    )


def _completed(dims: Dims | None, target: np.ndarray) -> list[int | str | None]:
    """The target without -1: the size, or an axis's name, that follows from the input's sizes; None where nothing does."""
    wanted = [int(size) if isinstance(size, (int, np.integer)) else size for size in target]
    if wanted.count(-1) > 1 or any(isinstance(size, int) and size < -1 for size in wanted):
        raise NotExpressible(f"it reshapes to {wanted}")
    open_at = [at for at, size in enumerate(wanted) if size == -1] or [
        at for at, size in enumerate(wanted) if size is None
    ]
    wanted = [None if size == -1 else size for size in wanted]
    if dims is None or len(open_at) != 1 or wanted.count(None) != 1:
        return wanted
    names = [dim for dim in dims if not isinstance(dim, int)]
    for size in wanted:
        if isinstance(size, str) and size in names:
            names.remove(size)
        elif isinstance(size, str):
            return wanted
    whole = math.prod(dim for dim in dims if isinstance(dim, int))
    rest = math.prod(size for size in wanted if isinstance(size, int))
    if not names and rest:
        wanted[open_at[0]] = whole // rest
    elif len(names) == 1 and whole == rest:
        wanted[open_at[0]] = names[0]
    return wanted


def _axes(rank: int, *, channels_first: bool) -> list[int]:
    """TFLite's axes in the order of the ONNX form."""
    return [0, rank - 1, *range(1, rank - 1)] if channels_first and rank > 2 else list(range(rank))
