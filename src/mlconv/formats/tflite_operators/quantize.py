"""Changes of representation: QUANTIZE, DEQUANTIZE, CAST, DENSIFY; and complex numbers, which ONNX has none of."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

_COMPLEX = "ONNX operators take no complex numbers"

OPERATORS = (
    TfliteOperator(
        "QUANTIZE",
        "quantize:quantize",
        exact="8-bit",
        versions=6,
        limits="from int32, and to a scale for each slice; NaN; where the run decides the sizes, the last 15 elements between int8 "
        "and uint8, and the last 7 of int16, may be 1 off",
    ),
    TfliteOperator(
        "DEQUANTIZE",
        "quantize:dequantize",
        versions=9,
        limits="scales by blocks, or for each slice of 16 bits",
    ),
    TfliteOperator(
        "CAST", "quantize:cast", versions=9, limits="complex numbers, types below a byte and of 8-bit floats"
    ),
    TfliteOperator("FAKE_QUANT", "quantize:fake_quant", versions=2),
    TfliteOperator("DENSIFY", "quantize:densify", limits="constants that are stored sparsely"),
    TfliteOperator("COMPLEX_ABS", limits=_COMPLEX),
    TfliteOperator("REAL", limits=_COMPLEX),
    TfliteOperator("IMAG", limits=_COMPLEX),
    TfliteOperator("RFFT2D", limits=_COMPLEX),
)
