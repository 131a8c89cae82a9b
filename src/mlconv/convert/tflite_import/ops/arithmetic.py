"""Sums, products, quotients and powers of two operands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import ACTIVATION_RANGES
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.pair_kernels import (
    BuiltinProduct,
    BuiltinSum,
    PowerOfTwoSum,
    product_kernel,
    quotient_kernel,
    squared_difference_kernel,
    sum_kernel,
)
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import exact_integers, pairs
from mlconv.convert.tflite_import.ops.broadcast import (
    Common,
    aligned,
    are_eight_bit,
    are_sixteen_bit,
    common,
    numbers,
    put_numbers,
    stored,
    widened,
)
from mlconv.convert.tflite_import.ops.whole import Whole
from mlconv.formats.tflite_graph import Operator


def add(e: Emitter, op: Operator) -> None:
    _sum(e, op, "Add", 1)


def sub(e: Emitter, op: Operator) -> None:
    _sum(e, op, "Sub", -1)


def mul(e: Emitter, op: Operator) -> None:
    a, b, out = *op.inputs, op.outputs[0]
    if are_eight_bit(e, (a, b, out)):
        pairs.product(e, op)
    elif are_sixteen_bit(e, (a, b, out)):
        layout = common(e, a, b)
        kernel = product_kernel(*pairs.codes_of(e, a, b, out))
        assert isinstance(kernel, BuiltinProduct)
        if kernel.overflows:
            raise NotExpressible("LiteRT's products overflow at its scales")
        value = exact_integers.multiplied(kernel, *_centred(e, layout, a, b))
        exact_integers.put_codes(e, out, value, op.activation, channels_first=layout.channels_first)
    else:
        _plain(e, op, "Mul")


def div(e: Emitter, op: Operator) -> None:
    """Integers are cut towards zero. A divisor of 0 is refused by LiteRT where it is an integer."""
    a, b, out = *op.inputs, op.outputs[0]
    if are_eight_bit(e, (a, b, out)):
        pairs.looked_up(e, op, quotient_kernel(*pairs.codes_of(e, a, b, out)))
    elif are_sixteen_bit(e, (a, b, out)):
        raise NotExpressible("its 16-bit quotients have no exact form")
    else:
        _plain(e, op, "Div")


def squared_difference(e: Emitter, op: Operator) -> None:
    a, b, out = *op.inputs, op.outputs[0]
    if are_eight_bit(e, (a, b, out)):
        pairs.looked_up(e, op, squared_difference_kernel(*pairs.codes_of(e, a, b, out)))
        return
    layout = _without_codes(e, op)
    difference = e.op("Sub", numbers(e, layout, a), numbers(e, layout, b))
    put_numbers(e, layout, out, e.op("Mul", difference, difference))


def maximum(e: Emitter, op: Operator) -> None:
    _extreme(e, op, "Max")


def minimum(e: Emitter, op: Operator) -> None:
    _extreme(e, op, "Min")


def power(e: Emitter, op: Operator) -> None:
    layout = _without_codes(e, op)
    base, exponent = (numbers(e, layout, index) for index in op.inputs)
    if not e.tensor(op.inputs[0]).dtype.startswith("float"):
        constant = e.constant(op.inputs[1])
        if constant is not None and constant.size == 1 and 0 < constant.item() <= _SMALL_POWER:
            put_numbers(e, layout, op.outputs[0], _multiplied(e, base, int(constant.item())))
            return
    put_numbers(e, layout, op.outputs[0], e.op("Pow", base, exponent))


_SMALL_POWER = 64  # beyond it, all but -1, 0 and 1 have left 64 bits


def _multiplied(e: Emitter, base: ir.Value, exponent: int) -> ir.Value:
    """A power by products, which wrap as LiteRT's do; onnxruntime's Pow goes through float64 and saturates."""
    power: ir.Value | None = None
    while exponent:
        if exponent & 1:
            power = base if power is None else e.op("Mul", power, base)
        exponent >>= 1
        if exponent:
            base = e.op("Mul", base, base)
    assert power is not None
    return power


def floor_div(e: Emitter, op: Operator) -> None:
    """Quotients cut towards minus infinity."""
    layout = _without_codes(e, op)
    a, b = (numbers(e, layout, index) for index in op.inputs)
    if e.tensor(op.inputs[0]).dtype.startswith("float"):
        value = e.op("Floor", e.op("Div", a, b))
    else:
        value = e.op("Div", e.op("Sub", a, e.op("Mod", a, b)), b)
    put_numbers(e, layout, op.outputs[0], value)


def floor_mod(e: Emitter, op: Operator) -> None:
    """What FLOOR_DIV leaves; it has the divisor's sign."""
    layout = _without_codes(e, op)
    a, b = (numbers(e, layout, index) for index in op.inputs)
    if not e.tensor(op.inputs[0]).dtype.startswith("float"):
        put_numbers(e, layout, op.outputs[0], e.op("Mod", a, b))
        return
    zero = e.const(np.float32(0))
    left = e.op("Mod", a, b, fmod=1)
    signs_differ = e.op("Less", e.op("Mul", e.op("Sign", left), e.op("Sign", b)), zero)
    put_numbers(e, layout, op.outputs[0], e.op("Where", signs_differ, e.op("Add", left, b), left))


def add_n(e: Emitter, op: Operator) -> None:
    layout = _without_codes(e, op)
    total, *others = (numbers(e, layout, index) for index in op.inputs)
    for other in others:
        total = e.op("Add", total, other)
    put_numbers(e, layout, op.outputs[0], total)


def atan2(e: Emitter, op: Operator) -> None:
    """``atan(y / x)``, moved by a half turn to ``y``'s side where ``x`` is negative; signed zeros count."""
    layout = _without_codes(e, op)
    y, x = (numbers(e, layout, index) for index in op.inputs)
    zero, turn = e.const(np.float32(0)), e.const(np.float32(np.pi))
    one = e.const(np.float32(1))

    def is_negative(value: ir.Value) -> ir.Value:
        below = e.op("Less", value, zero)
        return e.op(
            "Or", below, e.op("And", e.op("Equal", value, zero), e.op("Less", e.op("Div", one, value), zero))
        )

    angle = e.op("Atan", e.op("Div", y, x))
    infinite = e.op("And", e.op("IsInf", y), e.op("IsInf", x))
    angle = e.op(
        "Where", infinite, e.op("Mul", e.op("Sign", e.op("Mul", y, x)), e.const(np.float32(np.pi / 4))), angle
    )
    nowhere = e.op("And", e.op("Equal", y, zero), e.op("Equal", x, zero))
    angle = e.op("Where", nowhere, zero, angle)
    moved = e.op("Where", is_negative(y), e.op("Sub", angle, turn), e.op("Add", angle, turn))
    put_numbers(e, layout, op.outputs[0], e.op("Where", is_negative(x), moved, angle))


def _sum(e: Emitter, op: Operator, kind: str, sign: int) -> None:
    a, b, out = *op.inputs, op.outputs[0]
    if are_eight_bit(e, (a, b, out)):
        pairs.sum_of(e, op, sign)
    elif are_sixteen_bit(e, (a, b, out)):
        layout = common(e, a, b)
        power_of_two = bool(op.option("pot_scale_int16", True))
        codes = pairs.codes_of(e, a, b, out)
        kernel = sum_kernel(*codes, sign, power_of_two=power_of_two, aligned=aligned(e, a, b))
        assert isinstance(kernel, (BuiltinSum, PowerOfTwoSum))
        value = exact_integers.summed(kernel, *_centred(e, layout, a, b))
        exact_integers.put_codes(e, out, value, op.activation, channels_first=layout.channels_first)
    else:
        _plain(e, op, kind)


def _plain(e: Emitter, op: Operator, kind: str) -> None:
    layout = _without_codes(e, op)
    if op.activation not in ACTIVATION_RANGES:
        raise NotExpressible(f"LiteRT leaves its fused {op.activation} out")
    a, b = (numbers(e, layout, index) for index in op.inputs)
    value = e.op(kind, a, b)
    if value.dtype in (ir.DataType.INT32, ir.DataType.INT64):
        value = _clamped_integers(e, value, op.activation)
    else:
        value = e.clamped(value, op.activation)
    put_numbers(e, layout, op.outputs[0], value)


def _clamped_integers(e: Emitter, value: ir.Value, activation: str) -> ir.Value:
    """The bounds of CalculateActivationRange, tflite/kernels/kernel_util.h."""
    assert value.dtype is not None
    for kind, bound in zip(("Max", "Min"), ACTIVATION_RANGES[activation], strict=True):
        if np.isfinite(bound):
            value = e.op(kind, value, e.const(np.array(bound, value.dtype.numpy())))
    return value


def _extreme(e: Emitter, op: Operator, kind: str) -> None:
    """LiteRT compares the codes themselves, whatever they stand for (tflite/kernels/maximum_minimum.cc)."""
    layout = common(e, *op.inputs)
    codes = {codes.dtype for index in (*op.inputs, *op.outputs) if (codes := e.codes(index)) is not None}
    if not codes:
        a, b = (numbers(e, layout, index) for index in op.inputs)
        put_numbers(e, layout, op.outputs[0], e.op(kind, a, b))
        return
    a, b = (widened(e, stored(e, layout, index)) for index in op.inputs)
    made = e.op(kind, a, b)
    if codes == {"uint8"}:
        made = e.op("Cast", made, to=ir.DataType.UINT8)
    e.put(op.outputs[0], made, channels_first=layout.channels_first)


def _centred(e: Emitter, layout: Common, *indices: int) -> list[Whole]:
    values = []
    for index in indices:
        codes = e.codes(index)
        assert codes is not None
        values.append(exact_integers.centred(e, stored(e, layout, index), codes))
    return values


def _without_codes(e: Emitter, op: Operator) -> Common:
    """The layout of operands that hold numbers.

    Raises:
        NotExpressible: They hold codes, or no numbers.
    """
    tensors = [e.tensor(index) for index in (*op.inputs, *op.outputs)]
    narrow = [tensor for tensor in tensors if tensor.dtype in ("int8", "uint8", "int16")]
    if any(tensor.quantization is not None and tensor.quantization.scale for tensor in narrow):
        raise NotExpressible(f"LiteRT does not compute it on quantized {narrow[0].dtype}")
    if any(tensor.dtype in ("complex64", "complex128", "str", "resource", "variant") for tensor in tensors):
        raise NotExpressible(f"ONNX has no {tensors[0].dtype} arithmetic")
    return common(e, *op.inputs)
