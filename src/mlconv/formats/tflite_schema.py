"""The TFLite schema as tables: operators, tensor types, options and their fields.

Facts from tensorflow/lite/schema/schema.fbs (version 3, as of TensorFlow 2.21 and LiteRT 2.3). Nothing is left out but
fields that the schema marks deprecated.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import cast

from mlconv.formats.flatbuffer import Kind

IDENTIFIER = b"TFL3"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BUILTIN_OPERATORS: tuple[str, ...] = _words(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
    SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
    UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
    UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE
    BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL
    LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT
    RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
    UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
    LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK
    ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4
    NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
    PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
    READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
    GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
    STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
    STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
    STABLEHLO_CASE
    """
)

BUILTIN_OPTIONS: tuple[str, ...] = _words(
    """
    NONE Conv2DOptions DepthwiseConv2DOptions ConcatEmbeddingsOptions LSHProjectionOptions Pool2DOptions
    SVDFOptions RNNOptions FullyConnectedOptions SoftmaxOptions ConcatenationOptions AddOptions L2NormOptions
    LocalResponseNormalizationOptions LSTMOptions ResizeBilinearOptions CallOptions ReshapeOptions
    SkipGramOptions SpaceToDepthOptions EmbeddingLookupSparseOptions MulOptions PadOptions GatherOptions
    BatchToSpaceNDOptions SpaceToBatchNDOptions TransposeOptions ReducerOptions SubOptions DivOptions
    SqueezeOptions SequenceRNNOptions StridedSliceOptions ExpOptions TopKV2Options SplitOptions
    LogSoftmaxOptions CastOptions DequantizeOptions MaximumMinimumOptions ArgMaxOptions LessOptions NegOptions
    PadV2Options GreaterOptions GreaterEqualOptions LessEqualOptions SelectOptions SliceOptions
    TransposeConvOptions SparseToDenseOptions TileOptions ExpandDimsOptions EqualOptions NotEqualOptions
    ShapeOptions PowOptions ArgMinOptions FakeQuantOptions PackOptions LogicalOrOptions OneHotOptions
    LogicalAndOptions LogicalNotOptions UnpackOptions FloorDivOptions SquareOptions ZerosLikeOptions FillOptions
    BidirectionalSequenceLSTMOptions BidirectionalSequenceRNNOptions UnidirectionalSequenceLSTMOptions
    FloorModOptions RangeOptions ResizeNearestNeighborOptions LeakyReluOptions SquaredDifferenceOptions
    MirrorPadOptions AbsOptions SplitVOptions UniqueOptions ReverseV2Options AddNOptions GatherNdOptions
    CosOptions WhereOptions RankOptions ReverseSequenceOptions MatrixDiagOptions QuantizeOptions
    MatrixSetDiagOptions HardSwishOptions IfOptions WhileOptions DepthToSpaceOptions NonMaxSuppressionV4Options
    NonMaxSuppressionV5Options ScatterNdOptions SelectV2Options DensifyOptions SegmentSumOptions
    BatchMatMulOptions CumsumOptions CallOnceOptions BroadcastToOptions Rfft2dOptions Conv3DOptions
    HashtableOptions HashtableFindOptions HashtableImportOptions HashtableSizeOptions VarHandleOptions
    ReadVariableOptions AssignVariableOptions RandomOptions BucketizeOptions GeluOptions
    DynamicUpdateSliceOptions UnsortedSegmentProdOptions UnsortedSegmentMaxOptions UnsortedSegmentMinOptions
    UnsortedSegmentSumOptions ATan2Options SignOptions BitcastOptions BitwiseXorOptions RightShiftOptions
    """
)

BUILTIN_OPTIONS_2: tuple[str, ...] = _words(
    """
    NONE StablehloConcatenateOptions StablehloBroadcastInDimOptions StablehloSliceOptions
    StablehloConvolutionOptions StablehloCustomCallOptions StablehloReduceOptions StablehloScatterOptions
    StablehloCompareOptions StablehloDynamicSliceOptions StablehloPadOptions StablehloIotaOptions
    StablehloDotGeneralOptions StablehloReduceWindowOptions StablehloSortOptions StablehloWhileOptions
    StablehloGatherOptions StablehloTransposeOptions DilateOptions StablehloRngBitGeneratorOptions
    ReduceWindowOptions StableHLOCompositeOptions StablehloShiftLeftOptions StablehloCaseOptions
    """
)

TENSOR_TYPES: tuple[str, ...] = _words(
    """
    float32 float16 int32 uint8 int64 str bool int16 complex64 int8 float64 complex128 uint64 resource variant
    uint32 uint16 int4 bfloat16 int2 uint4 float8_e4m3fn float8_e5m2
    """
)
"""By their codes; numpy's names where numpy has one."""

BITS: dict[str, int] = {
    "bool": 8, "int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16,
    "int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "float8_e4m3fn": 8, "float8_e5m2": 8,
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip
"""Bits of one element in a buffer; types below a byte are packed, the first element in the low bits."""

PADDING = ("SAME", "VALID")
ACTIVATION = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
MIRROR_PAD_MODE = ("REFLECT", "SYMMETRIC")
LSTM_KERNEL = ("FULL", "BASIC")
WEIGHTS_FORMAT = ("DEFAULT", "SHUFFLED4x16INT8")
COMBINER = ("SUM", "MEAN", "SQRTN")


class ModelField:
    VERSION, OPERATOR_CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, METADATA_BUFFER, METADATA, SIGNATURE_DEFS = (
        range(8)
    )
    EXTERNAL_BUFFER_GROUPS, EXTERNAL_BUFFERS = 8, 9


class SubgraphField:
    TENSORS, INPUTS, OUTPUTS, OPERATORS, NAME = range(5)


class TensorField:
    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE, HAS_RANK = range(9)
    VARIANT_TENSORS, EXTERNAL_BUFFER = 9, 10


class QuantizationField:
    MIN, MAX, SCALE, ZERO_POINT, DETAILS_TYPE, DETAILS, QUANTIZED_DIMENSION = range(7)


class BlockwiseField:
    SCALES, ZERO_POINTS, BLOCK_SIZE = range(3)


class OperatorField:
    OPCODE_INDEX, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS, CUSTOM_OPTIONS, CUSTOM_FORMAT, MUTATING = range(8)
    INTERMEDIATES, LARGE_OFFSET, LARGE_SIZE, OPTIONS_2_TYPE, OPTIONS_2 = range(8, 13)


class OperatorCodeField:
    DEPRECATED_CODE, CUSTOM_CODE, VERSION, CODE = range(4)


class BufferField:
    DATA, OFFSET, SIZE = range(3)


class MetadataField:
    NAME, BUFFER = range(2)


class SignatureField:
    INPUTS, OUTPUTS, KEY, SUBGRAPH = 0, 1, 2, 4


class TensorMapField:
    NAME, TENSOR = range(2)


@dataclass(frozen=True, slots=True)
class Option:
    """One field of an options table.

    Attributes:
        field: Its number.
        kind: A number's kind, or ``text``.
        repeated: A vector of such.
        default: What an absent field means.
    """

    field: int
    kind: Kind | str
    repeated: bool
    default: int


_OPTION_FIELDS = """
Conv2DOptions: padding:int8 stride_w:int32 stride_h:int32 fused_activation_function:int8
    dilation_w_factor:int32=1 dilation_h_factor:int32=1 quantized_bias_type:int8
DepthwiseConv2DOptions: padding:int8 stride_w:int32 stride_h:int32 depth_multiplier:int32
    fused_activation_function:int8 dilation_w_factor:int32=1 dilation_h_factor:int32=1
ConcatEmbeddingsOptions: num_channels:int32 num_columns_per_channel:int32s embedding_dim_per_channel:int32s
LSHProjectionOptions: type:int8
Pool2DOptions: padding:int8 stride_w:int32 stride_h:int32 filter_width:int32 filter_height:int32
    fused_activation_function:int8
SVDFOptions: rank:int32 fused_activation_function:int8 asymmetric_quantize_inputs:bool
RNNOptions: fused_activation_function:int8 asymmetric_quantize_inputs:bool
FullyConnectedOptions: fused_activation_function:int8 weights_format:int8 keep_num_dims:bool
    asymmetric_quantize_inputs:bool quantized_bias_type:int8 quant_spec:uint8s
SoftmaxOptions: beta:float32
ConcatenationOptions: axis:int32 fused_activation_function:int8
AddOptions: fused_activation_function:int8 pot_scale_int16:bool=1
L2NormOptions: fused_activation_function:int8
LocalResponseNormalizationOptions: radius:int32 bias:float32 alpha:float32 beta:float32
LSTMOptions: fused_activation_function:int8 cell_clip:float32 proj_clip:float32 kernel_type:int8
    asymmetric_quantize_inputs:bool
ResizeBilinearOptions: align_corners@2:bool half_pixel_centers:bool
CallOptions: subgraph:uint32
ReshapeOptions: new_shape:int32s
SkipGramOptions: ngram_size:int32 max_skip_size:int32 include_all_ngrams:bool
SpaceToDepthOptions: block_size:int32
EmbeddingLookupSparseOptions: combiner:int8
MulOptions: fused_activation_function:int8
GatherOptions: axis:int32 batch_dims:int32
ReducerOptions: keep_dims:bool
SubOptions: fused_activation_function:int8 pot_scale_int16:bool=1
DivOptions: fused_activation_function:int8
SqueezeOptions: squeeze_dims:int32s
SequenceRNNOptions: time_major:bool fused_activation_function:int8 asymmetric_quantize_inputs:bool
StridedSliceOptions: begin_mask:int32 end_mask:int32 ellipsis_mask:int32 new_axis_mask:int32
    shrink_axis_mask:int32 offset:bool
SplitOptions: num_splits:int32
CastOptions: in_data_type:int8 out_data_type:int8
ArgMaxOptions: output_type:int8
TransposeConvOptions: padding:int8 stride_w:int32 stride_h:int32 fused_activation_function:int8
    quantized_bias_type:int8
SparseToDenseOptions: validate_indices:bool
ShapeOptions: out_type:int8
ArgMinOptions: output_type:int8
FakeQuantOptions: min:float32 max:float32 num_bits:int32 narrow_range:bool
PackOptions: values_count:int32 axis:int32
OneHotOptions: axis:int32
UnpackOptions: num:int32 axis:int32
BidirectionalSequenceLSTMOptions: fused_activation_function:int8 cell_clip:float32 proj_clip:float32
    merge_outputs:bool time_major:bool=1 asymmetric_quantize_inputs:bool
BidirectionalSequenceRNNOptions: time_major:bool fused_activation_function:int8 merge_outputs:bool
    asymmetric_quantize_inputs:bool
UnidirectionalSequenceLSTMOptions: fused_activation_function:int8 cell_clip:float32 proj_clip:float32
    time_major:bool asymmetric_quantize_inputs:bool diagonal_recurrent_tensors:bool
ResizeNearestNeighborOptions: align_corners:bool half_pixel_centers:bool
LeakyReluOptions: alpha:float32
MirrorPadOptions: mode:int8
SplitVOptions: num_splits:int32
UniqueOptions: idx_out_type:int8=2
ReverseSequenceOptions: seq_dim:int32 batch_dim:int32
IfOptions: then_subgraph_index:int32 else_subgraph_index:int32
WhileOptions: cond_subgraph_index:int32 body_subgraph_index:int32
DepthToSpaceOptions: block_size:int32
BatchMatMulOptions: adj_x:bool adj_y:bool asymmetric_quantize_inputs:bool
CumsumOptions: exclusive:bool reverse:bool
CallOnceOptions: init_subgraph_index:int32
Conv3DOptions: padding:int8 stride_d:int32 stride_w:int32 stride_h:int32 fused_activation_function:int8
    dilation_d_factor:int32=1 dilation_w_factor:int32=1 dilation_h_factor:int32=1
HashtableOptions: table_id:int32 key_dtype:int8 value_dtype:int8
VarHandleOptions: container:text shared_name:text
RandomOptions: seed:int64 seed2:int64
BucketizeOptions: boundaries:float32s
GeluOptions: approximate:bool
StablehloConcatenateOptions: dimension:int64
StablehloBroadcastInDimOptions: broadcast_dimensions:int64s
StablehloSliceOptions: start_indices:int64s limit_indices:int64s strides:int64s
StablehloConvolutionOptions: window_strides:int64s padding:int64s lhs_dilation:int64s rhs_dilation:int64s
    window_reversal:bools input_batch_dimension:int64 input_feature_dimension:int64
    input_spatial_dimensions:int64s kernel_input_feature_dimension:int64 kernel_output_feature_dimension:int64
    kernel_spatial_dimensions:int64s output_batch_dimension:int64 output_feature_dimension:int64
    output_spatial_dimensions:int64s feature_group_count:int64 batch_group_count:int64
    precision_config:uint32s
StablehloCustomCallOptions: call_target_name:text has_side_effect:bool backend_config:text api_version:int32
    called_computations:int32s custom_attributes:uint8s
StablehloReduceOptions: dimensions:int64s body_subgraph_index:int32
StablehloScatterOptions: indices_are_sorted:bool update_window_dims:int64s inserted_window_dims:int64s
    scatter_dims_to_operand_dims:int64s index_vector_dim:int64 unique_indices:bool
    update_computation_subgraph_index:int32
StablehloCompareOptions: comparison_direction:uint32 compare_type:uint32
StablehloDynamicSliceOptions: slice_sizes:int64s
StablehloPadOptions: edge_padding_low:int64s edge_padding_high:int64s interior_padding:int64s
StablehloIotaOptions: iota_dimension:int64
StablehloDotGeneralOptions: lhs_batching_dimensions:int64s rhs_batching_dimensions:int64s
    lhs_contracting_dimensions:int64s rhs_contracting_dimensions:int64s precision_config:uint32s
StablehloReduceWindowOptions: window_dimensions:int64s window_strides:int64s base_dilations:int64s
    window_dilations:int64s padding:int64s body_subgraph_index:int32
StablehloSortOptions: dimension:int64 is_stable:bool comparator_subgraph_index:int32
StablehloWhileOptions: cond_subgraph_index:int32 body_subgraph_index:int32
StablehloGatherOptions: offset_dims:int64s collapsed_slice_dims:int64s start_index_map:int64s
    index_vector_dim:int64 slice_sizes:int64s indices_are_sorted:bool
StablehloTransposeOptions: permutation:int64s
StablehloRngBitGeneratorOptions: algorithm:int8
ReduceWindowOptions: reduce_function:int32
StableHLOCompositeOptions: name:text decomposition_subgraph_index:int32 composite_attributes:uint8s
    composite_attributes_format:int8 version:int32
StablehloCaseOptions: branch_subgraph_indices:int32s
"""
"""A table's name and its fields in order: ``name:kind``, ``@number`` after a gap, ``=default``."""

_ENTRY = re.compile(r"(?P<name>\w+?)(?:@(?P<at>\d+))?:(?P<kind>[a-z]+\d*)(?P<many>s?)(?:=(?P<default>\d+))?")


@functools.cache
def option_fields(table: str) -> dict[str, Option]:
    """The fields of an options table by name; none for a table without fields or an unknown one."""
    return _tables().get(table, {})


@functools.cache
def _tables() -> dict[str, dict[str, Option]]:
    tables: dict[str, dict[str, Option]] = {}
    for name, body in re.findall(r"^(\w+): (.+(?:\n    .+)*)$", _OPTION_FIELDS, re.MULTILINE):
        number, fields = -1, {}
        for match in _ENTRY.finditer(body):
            number = int(match["at"]) if match["at"] else number + 1
            kind = cast("Kind", match["kind"])
            fields[match["name"]] = Option(number, kind, bool(match["many"]), int(match["default"] or 0))
        tables[name] = fields
    return tables
