"""Normalisations over the last axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.roots import l2_normalized
from mlconv.convert.tflite_import.ops.tables import eight_bit
from mlconv.convert.tflite_import.ops.wide import is_wide
from mlconv.convert.tflite_import.ops.wide import softmax as wide_softmax
from mlconv.formats.tflite_graph import Operator


def softmax(e: Emitter, op: Operator) -> None:
    """With ``beta`` in the scale of codes, as tflite/kernels/activations.cc has it, or in front of it."""
    _softmax(e, op, "Softmax", float(op.option("beta", 0.0)))  # type: ignore[arg-type]


def log_softmax(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    codes = eight_bit(e, x, out)
    if codes is None:
        _softmax(e, op, "LogSoftmax", 1.0)
        return
    given, made = codes
    channels_first = e.layout(x)
    shares = _log_shares(
        e, e.stored(x, channels_first=channels_first), given, made, _channels(channels_first)
    )
    steps = e.const(np.float32(1)), e.const(np.array(made.zero_point, made.dtype))
    e.put(out, e.op("QuantizeLinear", shares, *steps), channels_first=channels_first)


def _log_shares(e: Emitter, stored: ir.Value, given: Codes, made: Codes, axis: int) -> ir.Value:
    """In steps of the result, by LiteRT's float32 arithmetic on the file's own codes.

    tflite/kernels/internal/optimized/optimized_ops.h: their size decides how much is rounded away.
    """
    codes, scale = e.op("Cast", stored, to=ir.DataType.FLOAT), np.float32(given.scale)
    if given.shift:
        codes = e.op("Sub", codes, e.const(np.float32(given.shift)))
    greatest = e.reduce("ReduceMax", codes, [axis], keepdims=True)
    parts = e.op("Exp", e.op("Mul", e.op("Sub", codes, greatest), e.const(scale)))
    whole = e.op("Log", e.reduce("ReduceSum", parts, [axis], keepdims=True))
    offset = e.op(
        "Div", e.op("Add", e.op("Mul", greatest, e.const(scale)), whole), e.const(np.float32(made.scale))
    )
    return e.op("Sub", e.op("Mul", codes, e.const(scale / np.float32(made.scale))), offset)


def _softmax(e: Emitter, op: Operator, kind: str, beta: float) -> None:
    x, out = op.inputs[0], op.outputs[0]
    codes, channels_first = e.codes(x), e.layout(x)
    if codes is not None and beta < 0:
        raise NotExpressible("its beta is negative, and LiteRT's sums of codes overflow")
    if eight_bit(e, x, out) is not None and kind == "Softmax" and (e.dims(x) or (0,))[-1] == 1:
        one = e.const(np.uint8(255))  # onnxruntime's kernel makes 256 of it, which is 0
        e.put(
            out,
            e.op("Clip", e.stored(x, channels_first=channels_first), one, one),
            channels_first=channels_first,
        )
        return
    if is_wide(e, x, out) and kind == "Softmax" and codes is not None:
        if Multiplier.of(codes.scale * beta * _WORDS_IN_TEN).shift > _LONGEST_SHIFT:
            raise NotExpressible("LiteRT's differences of codes overflow at its scale")
        rank = e.rank(x)
        axis = 1 if channels_first and rank > 2 else rank - 1
        shares = wide_softmax(e, e.stored(x, channels_first=channels_first), codes.scale * beta, axis, rank)
        e.put(out, e.op("Cast", shares.value, to=ir.DataType.FLOAT), channels_first=channels_first)
        return
    if codes is not None and beta > 0:
        scale = None if beta == 1 else float(np.float32(codes.scale) * np.float32(beta))
        real = e.real(x, channels_first=channels_first, scale=scale)
    else:
        real = e.real(x, channels_first=channels_first)
        if beta != 1:
            real = e.op("Mul", real, e.const(np.float32(beta)))
    e.put_real(out, e.op(kind, real, axis=_channels(channels_first)), channels_first=channels_first)


_WORDS_IN_TEN = 65535 / 10
"""Steps of LiteRT's table of exponentials, which reaches to -10 (tflite/kernels/activations.cc, SoftmaxPrepare)."""
_LONGEST_SHIFT = 15  # of differences of 16 bits, in 31


def l2_normalization(e: Emitter, op: Operator) -> None:
    """tflite/kernels/internal/reference/l2normalization.h: the norm is 1e-6 at least."""
    x, out = op.inputs[0], op.outputs[0]
    if eight_bit(e, x, out) is not None:
        if op.activation != "NONE":
            raise NotExpressible("LiteRT has no fused activation of it")
        l2_normalized(e, op)
        return
    channels_first = e.layout(x)
    real = e.real(x, channels_first=channels_first)
    norm = e.op("Sqrt", e.reduce("ReduceSumSquare", real, [_channels(channels_first)], keepdims=True))
    made = e.op("Div", real, e.op("Max", norm, e.const(np.float32(1e-6))))
    e.put_real(out, made, channels_first=channels_first, activation=op.activation)


def local_response_normalization(e: Emitter, op: Operator) -> None:
    """ONNX divides alpha by the number of channels that it sums over; TFLite does not."""
    x, out = op.inputs[0], op.outputs[0]
    size = 2 * op.integer("radius") + 1
    numbers: dict[str, float] = {name: float(op.option(name, 0.0)) for name in ("alpha", "beta", "bias")}  # type: ignore[arg-type]
    made = e.op("LRN", e.real(x, channels_first=True), size=size, alpha=numbers["alpha"] * size, beta=numbers["beta"],
                bias=numbers["bias"])  # fmt: skip
    e.put_real(out, made, channels_first=True)


def _channels(channels_first: bool) -> int:
    return 1 if channels_first else -1
