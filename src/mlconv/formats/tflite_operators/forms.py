"""What an operator of a sound file looks like: how many tensors it takes and gives, and the table of its options.

The numbers are those that LiteRT's kernels ensure when they are prepared (tensorflow/lite/kernels/*.cc). Operators that
are not named here have no fixed numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from mlconv.formats import tflite_schema as schema

MANY = 1 << 16


@dataclass(frozen=True, slots=True)
class Form:
    """Attributes.

    inputs: Fewest and most; the first ``fewest`` may not be left out (-1), unless ``may_lack``.
    outputs: Fewest and most.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    may_lack: bool = False


_UNARY = """
    ABS AVERAGE_POOL_2D BITCAST BUCKETIZE CAST CEIL COMPLEX_ABS COS DENSIFY DEPTH_TO_SPACE DEQUANTIZE ELU EXP FAKE_QUANT
    FLOOR GELU HARD_SWISH IMAG L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_NOT
    LOGISTIC LOG_SOFTMAX MATRIX_DIAG MAX_POOL_2D NEG QUANTIZE RANK REAL RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT
    SHAPE SIGN SIN SOFTMAX SPACE_TO_DEPTH SQRT SQUARE SQUEEZE TANH WHERE ZEROS_LIKE
    STABLEHLO_ABS STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CBRT STABLEHLO_CONVERT STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_LOGISTIC STABLEHLO_NEGATE STABLEHLO_RESHAPE STABLEHLO_RSQRT STABLEHLO_SLICE
    STABLEHLO_TANH STABLEHLO_TRANSPOSE
"""
_BINARY = """
    ADD ARG_MAX ARG_MIN ATAN2 BATCH_MATMUL BITWISE_XOR BROADCAST_ARGS BROADCAST_TO CUMSUM DIV EMBEDDING_LOOKUP EQUAL
    EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR
    MATRIX_SET_DIAG MAXIMUM MEAN MINIMUM MIRROR_PAD MUL NOT_EQUAL PAD POW PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX
    REDUCE_MIN REDUCE_PROD RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 RFFT2D RIGHT_SHIFT
    SEGMENT_SUM SQUARED_DIFFERENCE SUB SUM TILE TRANSPOSE
    STABLEHLO_ADD STABLEHLO_AND STABLEHLO_COMPARE STABLEHLO_CONVOLUTION STABLEHLO_DIVIDE STABLEHLO_DOT_GENERAL
    STABLEHLO_GATHER STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_OR STABLEHLO_PAD STABLEHLO_POWER
    STABLEHLO_REMAINDER STABLEHLO_SHIFT_LEFT STABLEHLO_SUBTRACT
"""
_TERNARY = """
    BATCH_TO_SPACE_ND DYNAMIC_UPDATE_SLICE PADV2 RANGE SCATTER_ND SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM STABLEHLO_CLAMP STABLEHLO_SELECT
"""
_FORMS = {
    **{kind: Form((1, 1)) for kind in _UNARY.split()},
    **{kind: Form((2, 2)) for kind in _BINARY.split()},
    **{kind: Form((3, 3)) for kind in _TERNARY.split()},
    **{kind: Form((4, 4)) for kind in ("ONE_HOT", "SPARSE_TO_DENSE", "STRIDED_SLICE")},
    **{kind: Form((2, 3)) for kind in ("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D")},
    **{kind: Form((3, 4)) for kind in ("CONV_3D_TRANSPOSE", "TRANSPOSE_CONV")},
    **{kind: Form((1, MANY)) for kind in ("ADD_N", "CONCATENATION", "PACK", "STABLEHLO_CONCATENATE")},
    "FULLY_CONNECTED": Form((2, 3), (1, 2)),  # the second output: shuffled weights' workspace
    "RESHAPE": Form((1, 2)),
    "DILATE": Form((3, 3)),
    "REDUCE_WINDOW": Form((5, 5)),
    "SPLIT": Form((2, 2), (1, MANY)),
    "SPLIT_V": Form((3, 3), (1, MANY)),
    "UNPACK": Form((1, 1), (1, MANY)),
    "TOPK_V2": Form((2, 2), (2, 2)),
    "UNIQUE": Form((1, 1), (2, 2)),
    "NON_MAX_SUPPRESSION_V4": Form((5, 5), (2, 2)),
    "NON_MAX_SUPPRESSION_V5": Form((6, 6), (3, 3)),
    "LSTM": Form((5, 24), (1, 4), may_lack=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Form((20, 24), may_lack=True),
    "BIDIRECTIONAL_SEQUENCE_LSTM": Form((48, 48), (1, 2), may_lack=True),
    "RNN": Form((5, 5)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": Form((5, 5)),
    "BIDIRECTIONAL_SEQUENCE_RNN": Form((12, 12), (1, 2), may_lack=True),
    "SVDF": Form((4, 5), (1, 2), may_lack=True),
}

_SHARED_OPTIONS = {
    "Pool2DOptions": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "ReducerOptions": "MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL",
    "SequenceRNNOptions": "UNIDIRECTIONAL_SEQUENCE_RNN",
    "Conv3DOptions": "CONV_3D CONV_3D_TRANSPOSE",
    "L2NormOptions": "L2_NORMALIZATION",
    "ConcatenationOptions": "CONCATENATION",
    "RandomOptions": "RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL",
}


def form(kind: str) -> Form | None:
    """The form of a builtin operator; None where it has no fixed one."""
    return _FORMS.get(kind)


@functools.cache
def options_tables() -> dict[str, str]:
    """The schema's options table of each builtin operator whose options say anything."""
    squeezed = {
        table.removesuffix("Options").lower(): table
        for table in (*schema.BUILTIN_OPTIONS, *schema.BUILTIN_OPTIONS_2)
    }
    named = {kind: squeezed.get(kind.replace("_", "").lower(), "") for kind in schema.BUILTIN_OPERATORS}
    shared = {kind: table for table, kinds in _SHARED_OPTIONS.items() for kind in kinds.split()}
    return {kind: table for kind, table in (named | shared).items() if schema.option_fields(table)}
