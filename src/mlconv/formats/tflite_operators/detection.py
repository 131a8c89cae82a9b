"""Custom operators at the end of object detectors."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS: tuple[TfliteOperator, ...] = (
    TfliteOperator(
        "TFLite_Detection_PostProcess",
        "detection:postprocess",
        custom=True,
        limits="one picture; float32 or uint8; equal scores of several classes come in another order with use_regular_nms; behind the detections, where LiteRT leaves what was there, the outputs are 0",
    ),
)
