"""Pooling and resizing."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS: tuple[TfliteOperator, ...] = (
    TfliteOperator("AVERAGE_POOL_2D", "pool:average_pool_2d", exact="8-bit", versions=3, limits="int16 over at most 512 elements"),
    TfliteOperator("MAX_POOL_2D", "pool:max_pool_2d", exact="8-bit", versions=3, limits="NaN, which LiteRT passes over"),
    TfliteOperator("L2_POOL_2D", "pool:l2_pool_2d", exact="floats", limits="float numbers alone, as in LiteRT"),
    TfliteOperator("RESIZE_BILINEAR", "resize:resize_bilinear", exact="8-bit", versions=4, limits="of integers, to constant sizes"),
    TfliteOperator("RESIZE_NEAREST_NEIGHBOR", "resize:resize_nearest_neighbor", exact="8-bit", versions=4),
)  # fmt: skip
