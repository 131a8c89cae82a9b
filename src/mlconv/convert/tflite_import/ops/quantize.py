"""Changes of representation: QUANTIZE, DEQUANTIZE, CAST, FAKE_QUANT, DENSIFY."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact import tables
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.tables import eight_bit, elements_of, looked_up, put_table
from mlconv.convert.tflite_import.ops.whole import multiplier, whole
from mlconv.formats.tflite_graph import Affine, Operator


def quantize(e: Emitter, op: Operator) -> None:
    """Numbers to codes, or codes to codes of another scale."""
    x, out = op.inputs[0], op.outputs[0]
    given, made = e.codes(x), e.codes(out)
    if made is None:
        raise NotExpressible("its result is not of one scale and 8 or 16 bits")
    if e.tensor(x).dtype.startswith("int") and given is None:
        raise NotExpressible(f"it quantizes {e.tensor(x).dtype}")
    channels_first = e.layout(x)
    codes = eight_bit(e, x, out)
    if codes is not None:
        _put_requantized(e, x, out, *codes)
    elif given is not None:
        value = _requantized(e, e.stored(x, channels_first=channels_first), given, made)
        e.put(out, value, channels_first=channels_first)
    elif made.dtype == "float32" and (elements_of(e.dims(x)) or 0) % _WORDS_AT_ONCE:
        e.put(
            out,
            _in_two(
                e, x, e.real(x), _WORDS_AT_ONCE, partial(_quantized, e, made), partial(_last_words, e, made)
            ),
        )
    else:
        real = e.real(x, channels_first=channels_first)
        e.put(out, _quantized(e, made, real), channels_first=channels_first)


_WORDS_AT_ONCE = 8


def _put_requantized(e: Emitter, x: int, out: int, given: Codes, made: Codes) -> None:
    (most, last), elements, at_once = (
        tables.requantized(given, made),
        elements_of(e.dims(x)),
        tables.REQUANTIZED_AT_ONCE,
    )
    if elements is None or elements % at_once == 0 or np.array_equal(most, last):
        put_table(e, x, out, most)
    elif elements < at_once:
        put_table(e, x, out, last)
    else:
        e.put(
            out,
            _in_two(
                e, x, e.stored(x), at_once, *(partial(looked_up, e, table=table) for table in (most, last))
            ),
        )


def _in_two(
    e: Emitter, x: int, value: ir.Value, at_once: int, most: Callable[[ir.Value], ir.Value], last: Callable[[ir.Value], ir.Value]
) -> ir.Value:  # fmt: skip
    """``value`` of the tensor ``x``, of known sizes: ``most`` of all elements but the last ones, which fill no vector."""
    dims, elements = (
        [int(size) for size in e.dims(x) or () if isinstance(size, int)],
        elements_of(e.dims(x)) or 0,
    )
    start = elements // at_once * at_once
    if not start:
        return last(value)
    flat = value if len(dims) == 1 else e.op("Reshape", value, e.ints(-1))
    parts = [e.op("Slice", flat, e.ints(a), e.ints(b)) for a, b in ((0, start), (start, elements))]
    made = e.op("Concat", most(parts[0]), last(parts[1]), axis=0)
    return made if len(dims) == 1 else e.reshape(made, dims)


def _last_words(e: Emitter, made: Codes, real: ir.Value) -> ir.Value:
    """Divided in float64, halves away from zero: tflite/kernels/internal/optimized/optimized_ops.h, AffineQuantize."""
    steps = e.op("Div", e.op("Cast", real, to=ir.DataType.DOUBLE), e.const(np.float64(made.scale)))
    size = e.op("Floor", e.op("Add", e.op("Abs", steps), e.const(np.float64(0.5))))
    return _limited(e, e.op("Cast", e.op("Mul", e.op("Sign", steps), size), to=ir.DataType.FLOAT), made)


def _quantized(e: Emitter, made: Codes, real: ir.Value) -> ir.Value:
    """LiteRT multiplies by the reciprocal in float32 (XNNPACK src/f32-qs8-vcvt), onnxruntime divides: so here."""
    if math.frexp(made.scale)[0] == 0.5:  # a power of two: dividing is multiplying
        return e.quantize(real, made)
    steps = e.op("Mul", real, e.const(np.float32(1) / np.float32(made.scale)))
    if made.dtype == "float32":
        return _limited(e, e.op("Round", steps), made)
    return e.op(
        "QuantizeLinear", steps, e.const(np.float32(1)), e.const(np.array(made.zero_point, made.dtype))
    )


def _requantized(e: Emitter, codes: ir.Value, given: Codes, made: Codes) -> ir.Value:
    """Where one side has 16 bits: LiteRT's two roundings."""
    steps = whole(e, codes)
    if given.zero_point:
        steps = steps - given.zero_point
    rounded = steps.rescaled([multiplier(given.scale / made.scale)], 2**16)
    limited = _limited(e, e.op("Cast", rounded.value, to=ir.DataType.FLOAT), made)
    return limited if made.dtype == "float32" else e.op("Cast", limited, to=ir.DataType.UINT8)


def _limited(e: Emitter, steps: ir.Value, made: Codes) -> ir.Value:
    if made.zero_point:
        steps = e.op("Add", steps, e.const(np.float32(made.zero_point)))
    return e.op("Clip", steps, e.const(np.float32(made.low)), e.const(np.float32(made.high)))


def dequantize(e: Emitter, op: Operator) -> None:
    """A constant stays as the file has it, float16 or codes; what needs its numbers at conversion finds them too."""
    x, out = op.inputs[0], op.outputs[0]
    array, affine = e.constant(x), e.tensor(x).quantization
    if affine is not None and affine.block_size is not None:
        raise NotExpressible("its scales stand in another tensor, by blocks")
    if array is not None and affine is None:
        e.put_constant(out, array)
        return
    if affine is not None and (e.codes(x) is None or array is not None):
        e.put(out, _dequantized(e, x, affine))
        if array is not None:
            e.put_constant(out, _numbers(array, affine))
        return
    channels_first = e.layout(x)
    e.put(out, e.real(x, channels_first=channels_first), channels_first=channels_first)


def _dequantized(e: Emitter, x: int, affine: Affine) -> ir.Value:
    """Codes of the file's own type, in TFLite's layout; one scale, or one for each slice of an axis."""
    if e.tensor(x).dtype in ("int16", "int32", "int64") or not all(
        math.isfinite(scale) and scale > 0 for scale in affine.scale
    ):
        raise NotExpressible(f"it is {e.tensor(x).dtype} with a scale for each slice")
    array = e.constant(x)
    codes = e.stored(x) if array is None else e.const(array, e.tensor(x).name)
    dtype = np.uint8 if e.tensor(x).dtype == "uint8" else np.int8
    scales, zero_points = np.array(affine.scale, np.float32), np.array(affine.zero_point).astype(dtype)
    if len(scales) == 1:
        return e.op("DequantizeLinear", codes, e.const(scales.reshape(())), e.const(zero_points.reshape(())))
    return e.op("DequantizeLinear", codes, e.const(scales), e.const(zero_points), axis=affine.axis)


def _numbers(array: np.ndarray, affine: Affine) -> np.ndarray:
    shape = [1] * array.ndim
    if len(affine.scale) > 1:
        shape[affine.axis] = -1
    scales = np.array(affine.scale, np.float32).reshape(shape if array.ndim else ())
    zero_points = np.array(affine.zero_point, np.int64).reshape(shape if array.ndim else ())
    return np.asarray((array.astype(np.int64) - zero_points).astype(np.float32) * scales)


_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64")
_CAST = (*_INTEGERS, "bool", "float16", "float32", "float64")


def cast(e: Emitter, op: Operator) -> None:
    """Codes are plain numbers to it; floats are cut towards zero and saturate (tflite/kernels/cast.cc); NaN is not looked at."""
    x, out = op.inputs[0], op.outputs[0]
    source, target = e.tensor(x).dtype, e.tensor(out).dtype
    for dtype in (source, target):
        if dtype not in _CAST:
            raise NotExpressible(f"it casts {source} to {target}")
    channels_first = e.layout(x)
    value, given, made = e.stored(x, channels_first=channels_first), e.codes(x), e.codes(out)
    if given is not None and (given.shift or given.dtype == "float32"):
        value = e.op("Cast", value, to=ir.DataType.INT32)
        if given.shift:
            value = e.op("Sub", value, e.const(np.int32(given.shift)))
    if source in ("float16", "float32", "float64") and target in _INTEGERS:
        value = _saturated(e, value, target)
    if made is not None and (made.shift or made.dtype == "float32"):
        value = e.op("Cast", value, to=ir.DataType.INT32)
        if made.shift:
            value = e.op("Add", value, e.const(np.int32(made.shift)))
        else:  # wraps as int16 does
            value = e.op("Cast", value, to=ir.DataType.INT16)
    stored = made.dtype if made is not None else target
    e.put(
        out, e.op("Cast", value, to=ir.DataType.from_numpy(np.dtype(stored))), channels_first=channels_first
    )


def _saturated(e: Emitter, value: ir.Value, target: str) -> ir.Value:
    """Within the integer type's range; onnxruntime's own Cast wraps. 64 bits have no float that holds their greatest."""
    limits = np.iinfo(np.dtype(target))
    if limits.bits == 64:
        return value
    wide = np.float64 if limits.bits == 32 else np.float32
    value = e.op("Cast", value, to=ir.DataType.from_numpy(np.dtype(wide)))
    return e.op("Clip", value, e.const(wide(limits.min)), e.const(wide(limits.max)))


def fake_quant(e: Emitter, op: Operator) -> None:
    """tflite/kernels/internal/reference/reference_ops.h, FakeQuant, with NudgeQuantizationRange."""
    x, out = op.inputs[0], op.outputs[0]
    least, most = (np.float32(float(op.option(name, 0.0))) for name in ("min", "max"))  # type: ignore[arg-type]
    low, high = np.float32(op.flag("narrow_range")), np.float32(2 ** op.integer("num_bits") - 1)
    if not least < most:
        raise NotExpressible("its range is empty")
    scale = (most - least) / (high - low)
    zero = np.clip(low - least / scale, low, high)
    nudged = np.floor(zero + np.float32(0.5))
    bottom, top = (low - nudged) * scale, (high - nudged) * scale
    channels_first = e.layout(x)
    limited = e.op("Clip", e.real(x, channels_first=channels_first), e.const(bottom), e.const(top))
    steps = e.op("Mul", e.op("Sub", limited, e.const(bottom)), e.const(np.float32(1) / scale))
    rounded = e.op("Floor", e.op("Add", steps, e.const(np.float32(0.5))))
    e.put_real(
        out, e.op("Add", e.op("Mul", rounded, e.const(scale)), e.const(bottom)), channels_first=channels_first
    )


def densify(e: Emitter, op: Operator) -> None:
    """A constant that another operator made dense already."""
    if e.tensor(op.inputs[0]).is_sparse:
        raise NotExpressible("its constant is stored sparsely")
    array = e.constant(op.inputs[0])
    if array is None:
        raise NotExpressible("its operand is computed while the model runs")
    e.put_constant(op.outputs[0], array)
