"""Operators that move values and compute none: reshaping, padding, slicing, joining."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS = (
    TfliteOperator("RESHAPE", "shape:reshape", exact="8-bit"),
    TfliteOperator("SQUEEZE", "shape:squeeze", exact="8-bit", versions=2, limits="axes that are told by no option, of tensors with dynamic sizes"),
    TfliteOperator("EXPAND_DIMS", "shape:expand_dims", exact="8-bit"),
    TfliteOperator("TRANSPOSE", "shape:transpose", exact="8-bit", versions=7),
    TfliteOperator("PAD", "joining:pad", exact="8-bit", versions=5),
    TfliteOperator("PADV2", "joining:pad", exact="8-bit", versions=5),
    TfliteOperator("MIRROR_PAD", "joining:mirror_pad", exact="8-bit", versions=3, limits="paddings computed while the model runs"),
    TfliteOperator("CONCATENATION", "joining:concatenation", exact="8-bit", versions=5, limits="a fused activation"),
    TfliteOperator("PACK", "joining:pack", exact="8-bit", versions=4),
    TfliteOperator("UNPACK", "slicing:unpack", exact="8-bit", versions=4),
    TfliteOperator("TILE", "joining:tile", exact="8-bit", versions=3),
    TfliteOperator("SLICE", "slicing:slice_", exact="8-bit", versions=7),
    TfliteOperator("STRIDED_SLICE", "strided_slice:strided_slice", exact="8-bit", versions=8, limits="strides computed while the model runs"),
    TfliteOperator("SPLIT", "slicing:split", versions=4, limits="an axis computed while the model runs"),
    TfliteOperator("SPLIT_V", "slicing:split_v", exact="8-bit", versions=2, limits="axis or lengths computed while the model runs"),
    TfliteOperator("REVERSE_V2", "slicing:reverse_v2", exact="8-bit", versions=3, limits="axes computed while the model runs"),
    TfliteOperator("REVERSE_SEQUENCE", "slicing:reverse_sequence"),
    TfliteOperator("SPACE_TO_BATCH_ND", "blocks:space_to_batch_nd", exact="8-bit", versions=4, limits="blocks or paddings computed while the model runs"),
    TfliteOperator("BATCH_TO_SPACE_ND", "blocks:batch_to_space_nd", versions=4, limits="blocks or crops computed while the model runs"),
    TfliteOperator("SPACE_TO_DEPTH", "blocks:space_to_depth", exact="8-bit", versions=2),
    TfliteOperator("DEPTH_TO_SPACE", "blocks:depth_to_space", exact="8-bit", versions=2),
    TfliteOperator("SHAPE", "filling:shape"),
    TfliteOperator("RANK", "filling:rank"),
    TfliteOperator("FILL", "filling:fill", versions=4),
    TfliteOperator("ZEROS_LIKE", "filling:zeros_like"),
    TfliteOperator("RANGE", "filling:range_", versions=2),
    TfliteOperator("BROADCAST_TO", "filling:broadcast_to", exact="8-bit", versions=3),
    TfliteOperator("BROADCAST_ARGS", "filling:broadcast_args"),
    TfliteOperator("BITCAST", "filling:bitcast", limits="other than between integers of one width"),
)  # fmt: skip
