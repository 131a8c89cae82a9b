"""Operators on one operand, element by element, and normalisations over the last axis."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS = (
    TfliteOperator("RELU", "activation:relu", exact="8-bit", versions=3),
    TfliteOperator("RELU6", "activation:relu6", exact="8-bit", versions=3),
    TfliteOperator("RELU_N1_TO_1", "activation:relu_n1_to_1", exact="8-bit"),
    TfliteOperator("RELU_0_TO_1", "activation:relu_0_to_1", exact="8-bit"),
    TfliteOperator("PRELU", "activation:prelu", exact="8-bit"),
    TfliteOperator("LEAKY_RELU", "activation:leaky_relu", exact="8-bit", versions=2),
    TfliteOperator("ELU", "activation:elu", exact="8-bit"),
    TfliteOperator("GELU", "activation:gelu", versions=3, worst_lsb=1, limits="16 bits are off by 1 at some of 65,536 codes: one interval of 512"),
    TfliteOperator("LOGISTIC", "activation:logistic", exact="8-bit", versions=3),
    TfliteOperator("TANH", "activation:tanh", exact="8-bit", versions=3),
    TfliteOperator("HARD_SWISH", "activation:hard_swish", exact="8-bit"),
    TfliteOperator("EXP", "activation:exp", exact="8-bit", versions=2),
    TfliteOperator("LOG", "activation:log", exact="8-bit", versions=2),
    TfliteOperator("SQRT", "activation:sqrt", exact="8-bit", versions=2),
    TfliteOperator("RSQRT", "activation:rsqrt", exact="8-bit", versions=3),
    TfliteOperator("SQUARE", "activation:square", exact="floats"),
    TfliteOperator("ABS", "activation:absolute", exact="8-bit", versions=5),
    TfliteOperator("NEG", "activation:neg", exact="8-bit"),
    TfliteOperator("SIGN", "activation:sign", exact="floats", versions=2),
    TfliteOperator("FLOOR", "activation:floor", exact="floats"),
    TfliteOperator("CEIL", "activation:ceil", exact="floats"),
    TfliteOperator("ROUND", "activation:round_", exact="floats"),
    TfliteOperator("SIN", "activation:sin", exact="floats", versions=2),
    TfliteOperator("COS", "activation:cos", exact="floats", versions=2),
    TfliteOperator("SOFTMAX", "normalise:softmax", versions=4, worst_lsb=1, limits="8 bits are off by 1 at one element of 500,000: near ties; not at scales where LiteRT overflows"),
    TfliteOperator("LOG_SOFTMAX", "normalise:log_softmax", exact="8-bit", versions=2),
    TfliteOperator("L2_NORMALIZATION", "normalise:l2_normalization", exact="8-bit", versions=2),
    TfliteOperator("LOCAL_RESPONSE_NORMALIZATION", "normalise:local_response_normalization", exact="floats"),
)  # fmt: skip
