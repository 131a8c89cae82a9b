"""Operators on one operand, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.exact import tables
from mlconv.convert.tflite_import.ops import wide
from mlconv.convert.tflite_import.ops.tables import eight_bit, looked_up, put_table
from mlconv.formats.tflite_graph import Operator

Real: TypeAlias = Callable[[Emitter, ir.Value], ir.Value]
Table: TypeAlias = Callable[[Codes, Codes], np.ndarray]


@dataclass(frozen=True, slots=True)
class Unary:
    """One operator: on numbers by ONNX operators, on codes as LiteRT's kernels have it.

    Attributes:
        table: For 8 bits; None where LiteRT has no kernel for those.
        wide: The same for 16.
        sigmoid: What ``exact.codes.form_of`` takes.
        on_integers: Whether it takes numbers that are no floats, too.
    """

    real: Real
    table: Table | None = None
    wide: wide.Wide | None = None
    sigmoid: float = 0.0
    on_integers: bool = False

    def __call__(self, e: Emitter, op: Operator) -> None:
        x, out = op.inputs[0], op.outputs[0]
        codes = eight_bit(e, x, out)
        if codes is not None:
            if self.table is None:
                raise NotExpressible("LiteRT has no kernel of it for 8-bit integers")
            put_table(e, x, out, self.table(*codes), self.sigmoid)
            return
        if wide.is_wide(e, x, out):
            if self.wide is None:
                raise NotExpressible("LiteRT has no kernel of it for 16-bit integers")
            wide.put_wide(e, x, out, self.wide)
            return
        dtype = e.tensor(x).dtype
        if e.codes(x) is None and not (
            dtype in _FLOATS or (self.on_integers and dtype in ("int32", "int64"))
        ):
            raise NotExpressible(f"its operand is {dtype}")
        channels_first = e.layout(x)
        e.put_real(out, self.real(e, e.real(x, channels_first=channels_first)), channels_first=channels_first)


_FLOATS = ("float16", "bfloat16", "float32", "float64")


def _by(kind: str, **attributes: Any) -> Real:
    return lambda e, x: e.op(kind, x, **attributes)


def _between(low: float, high: float) -> Real:
    return lambda e, x: e.op("Clip", x, e.const(np.float32(low)), e.const(np.float32(high)))


def _clamp(low: float, high: float) -> Table:
    return lambda x, y: tables.relu(x, y, low, high)


def _kernel(function: tables.Function) -> Table:
    return lambda x, y: tables.by_kernel_table(x, y, function)


def _xnnpack(function: tables.Function) -> Table:
    return lambda x, y: tables.by_xnnpack_table(x, y, function)


def _hard_swish(e: Emitter, x: ir.Value) -> ir.Value:
    if e.target.opset >= 14:
        return e.op("HardSwish", x)
    return e.op("Mul", x, e.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def _inverse_root(real: np.ndarray) -> np.ndarray:
    return np.asarray(np.float32(1) / np.sqrt(real.astype(np.float32)))


relu = Unary(_by("Relu"), _clamp(0, math.inf), wide.clamped(0, math.inf))
relu6 = Unary(_between(0, 6), _clamp(0, 6), wide.clamped(0, 6))
relu_n1_to_1 = Unary(_between(-1, 1), _clamp(-1, 1))
relu_0_to_1 = Unary(_between(0, 1), _clamp(0, 1))
elu = Unary(_by("Elu"), _xnnpack(tables.elu))
logistic = Unary(_by("Sigmoid"), _xnnpack(tables.sigmoid), wide.logistic, sigmoid=1)
tanh = Unary(_by("Tanh"), _xnnpack(np.tanh), wide.tanh, sigmoid=2)
hard_swish = Unary(_hard_swish, tables.hard_swish)
exp = Unary(_by("Exp"), _kernel(np.exp), wide.interpolated(np.exp))
log = Unary(_by("Log"), lambda x, y: tables.by_kernel_table(x, y, tables.logarithm(y)),
            wide.interpolated(np.log, lambda y: -32768 * y.scale))  # fmt: skip
sqrt = Unary(_by("Sqrt"), tables.square_root, wide.square_root)
rsqrt = Unary(lambda e, x: e.op("Reciprocal", e.op("Sqrt", x)), tables.inverse_root,
              wide.interpolated(_inverse_root, lambda y: 32767 * y.scale))  # fmt: skip
square = Unary(lambda e, x: e.op("Mul", x, x))
absolute = Unary(_by("Abs"), tables.absolute, wide.absolute, on_integers=True)
neg = Unary(_by("Neg"), tables.negated, wide.negated, on_integers=True)
sign = Unary(_by("Sign"), on_integers=True)
floor = Unary(_by("Floor"))
ceil = Unary(_by("Ceil"))
round_ = Unary(_by("Round"))
sin = Unary(_by("Sin"))
cos = Unary(_by("Cos"))


def leaky_relu(e: Emitter, op: Operator) -> None:
    alpha = float(op.option("alpha", 0.0))  # type: ignore[arg-type]
    Unary(_by("LeakyRelu", alpha=alpha), lambda x, y: tables.leaky_relu(x, y, alpha), wide.slopes(alpha))(
        e, op
    )


def gelu(e: Emitter, op: Operator) -> None:
    if op.flag("approximate"):
        Unary(_gelu_by_tanh, _kernel(tables.gelu_by_tanh), wide.interpolated(tables.gelu_by_tanh))(e, op)
    else:
        Unary(_gelu, _kernel(tables.gelu), wide.interpolated(tables.gelu))(e, op)


def _gelu(e: Emitter, x: ir.Value) -> ir.Value:
    """In the order that onnxruntime fuses."""
    inner = e.op("Erf", e.op("Div", x, e.const(np.float32(math.sqrt(2)))))
    return e.op("Mul", e.op("Mul", x, e.op("Add", inner, e.const(np.float32(1)))), e.const(np.float32(0.5)))


def _gelu_by_tanh(e: Emitter, x: ir.Value) -> ir.Value:
    cube = e.op("Mul", e.op("Mul", e.op("Mul", x, x), x), e.const(np.float32(0.044715)))
    inner = e.op("Mul", e.op("Add", x, cube), e.const(np.float32(math.sqrt(2 / math.pi))))
    return e.op(
        "Mul",
        e.op("Mul", x, e.op("Add", e.op("Tanh", inner), e.const(np.float32(1)))),
        e.const(np.float32(0.5)),
    )


def prelu(e: Emitter, op: Operator) -> None:
    """Slopes of the negative side, broadcast from the last axis."""
    x, slopes, out = op.inputs[0], op.inputs[1], op.outputs[0]
    codes, alpha = eight_bit(e, x, out), e.constant(slopes)
    channels_first = e.layout(x) and alpha is not None
    if codes is not None and alpha is not None and e.codes(slopes) is not None:
        _prelu_of_codes(e, x, slopes, out, channels_first)
        return
    if alpha is None:
        given = e.real(slopes)
    else:
        affine = e.codes(slopes)
        numbers = alpha.astype(np.float32)
        if affine is not None:
            numbers = (numbers - (affine.zero_point - affine.shift)) * np.float32(affine.scale)
        given = e.const(_aligned(numbers, e.rank(x), channels_first), e.tensor(slopes).name)
    made = e.op("PRelu", e.real(x, channels_first=channels_first), given)
    e.put_real(out, made, channels_first=channels_first)


def _prelu_of_codes(e: Emitter, x: int, slopes: int, out: int, channels_first: bool) -> None:
    """A table for each slope, one behind the other: exact, and no slower than the float form."""
    given, made, affine, alpha = e.codes(x), e.codes(out), e.codes(slopes), e.constant(slopes)
    assert given is not None
    assert made is not None
    assert affine is not None
    assert alpha is not None
    own = alpha.astype(np.int64) - (affine.zero_point - affine.shift)
    distinct, places = np.unique(own, return_inverse=True)
    rows = [tables.prelu(given, made, affine.scale, int(slope)) for slope in distinct]
    if len(rows) == 1:
        put_table(e, x, out, rows[0])
        return
    offsets = _aligned((places.reshape(own.shape) * 256).astype(np.int32), e.rank(x), channels_first)
    codes = e.op("Cast", e.stored(x, channels_first=channels_first), to=ir.DataType.INT32)
    value = looked_up(e, e.op("Add", codes, e.const(offsets)), np.concatenate(rows))
    e.put(out, value, channels_first=channels_first)


def _aligned(array: np.ndarray, rank: int, channels_first: bool) -> np.ndarray:
    """With ``rank`` axes, in that layout."""
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if channels_first and rank > 2 else array
