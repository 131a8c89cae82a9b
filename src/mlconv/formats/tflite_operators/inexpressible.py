"""Operators of the schema that no family has, since nothing in ONNX gives what they give."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

_RANDOM = "ONNX has no generator that gives the same numbers"

OPERATORS = (
    TfliteOperator("MULTINOMIAL", limits=_RANDOM),
    TfliteOperator("RANDOM_STANDARD_NORMAL", limits=_RANDOM),
    TfliteOperator("RANDOM_UNIFORM", limits=_RANDOM),
)
