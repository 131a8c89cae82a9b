"""Operators of StableHLO, which TFLite's schema holds beside its own, and the two of TFLite's that are made of them."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

_NO_KERNEL = "LiteRT has no kernel of it, so nothing says what is right"

_WITHOUT_KERNEL = """
    LOGISTIC DIVIDE RESHAPE CLAMP CONCATENATE BROADCAST_IN_DIM CONVOLUTION SLICE CUSTOM_CALL REDUCE ABS COSINE EXPONENTIAL FLOOR LOG
    NEGATE OR POWER REMAINDER RSQRT SELECT SUBTRACT TANH COMPARE CONVERT DYNAMIC_SLICE DYNAMIC_UPDATE_SLICE IOTA DOT_GENERAL SORT
    WHILE TRANSPOSE CBRT
"""
"""What LiteRT 2.3 does not register: it refuses the file (tried, operator by operator)."""

OPERATORS = (
    TfliteOperator("STABLEHLO_ADD", "stablehlo:add", limits="quantized tensors"),
    TfliteOperator("STABLEHLO_MULTIPLY", "stablehlo:multiply", limits="quantized tensors"),
    TfliteOperator("STABLEHLO_MAXIMUM", "stablehlo:maximum", limits="quantized tensors"),
    TfliteOperator("STABLEHLO_MINIMUM", "stablehlo:minimum", limits="quantized tensors"),
    TfliteOperator("STABLEHLO_AND", "stablehlo:and_", limits="integers before opset 18"),
    TfliteOperator("STABLEHLO_SHIFT_LEFT", "stablehlo:shift_left"),
    TfliteOperator("STABLEHLO_PAD", "stablehlo:pad"),
    TfliteOperator("STABLEHLO_COMPOSITE", "stablehlo:composite", limits="operators of its decomposition without an ONNX form"),
    TfliteOperator("STABLEHLO_GATHER", "stablehlo_gather:gather", limits="parts of an axis of dynamic size"),
    TfliteOperator("STABLEHLO_REDUCE_WINDOW", "windows:stablehlo_reduce_window", limits="several tensors at once; bodies of more than one operator; products of integers that overflow"),
    TfliteOperator("STABLEHLO_SCATTER", "stablehlo_scatter:scatter", limits="operands of dynamic size; bodies of more than one operator"),
    TfliteOperator("STABLEHLO_CASE", "stablehlo_case:case", limits="branches that assign variables"),
    TfliteOperator("STABLEHLO_RNG_BIT_GENERATOR", limits="ONNX has no generator that gives the same bits"),
    TfliteOperator("DILATE", "stablehlo:dilate", limits="dilations computed while the model runs"),
    TfliteOperator("REDUCE_WINDOW", "windows:reduce_window", limits="windows computed while the model runs; products of integers that overflow"),
    *(TfliteOperator(f"STABLEHLO_{kind}", limits=_NO_KERNEL) for kind in _WITHOUT_KERNEL.split()),
)  # fmt: skip
