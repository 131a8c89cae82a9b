"""Operators on one operand, element by element, and normalisations over the last axis."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS = (
    TfliteOperator("RELU", "activation:relu", versions=3),
    TfliteOperator("RELU6", "activation:relu6", versions=3),
    TfliteOperator("RELU_N1_TO_1", "activation:relu_n1_to_1"),
    TfliteOperator("RELU_0_TO_1", "activation:relu_0_to_1"),
    TfliteOperator("PRELU", "activation:prelu"),
    TfliteOperator("LEAKY_RELU", "activation:leaky_relu", versions=2),
    TfliteOperator("ELU", "activation:elu"),
    TfliteOperator("GELU", "activation:gelu", versions=3, worst_lsb=1, limits="16 bits are off by 1 at some of 65,536 codes: one interval of 512"),
    TfliteOperator("LOGISTIC", "activation:logistic", versions=3),
    TfliteOperator("TANH", "activation:tanh", versions=3),
    TfliteOperator("HARD_SWISH", "activation:hard_swish"),
    TfliteOperator("EXP", "activation:exp", versions=2),
    TfliteOperator("LOG", "activation:log", versions=2),
    TfliteOperator("SQRT", "activation:sqrt", versions=2),
    TfliteOperator("RSQRT", "activation:rsqrt", versions=3),
    TfliteOperator("SQUARE", "activation:square"),
    TfliteOperator("ABS", "activation:absolute", versions=5),
    TfliteOperator("NEG", "activation:neg"),
    TfliteOperator("SIGN", "activation:sign", versions=2),
    TfliteOperator("FLOOR", "activation:floor"),
    TfliteOperator("CEIL", "activation:ceil"),
    TfliteOperator("ROUND", "activation:round_"),
    TfliteOperator("SIN", "activation:sin", versions=2),
    TfliteOperator("COS", "activation:cos", versions=2),
    TfliteOperator("SOFTMAX", "normalise:softmax", versions=4, worst_lsb=1, limits="8 bits are off by 1 at one element of 500,000: near ties"),
    TfliteOperator("LOG_SOFTMAX", "normalise:log_softmax", versions=2),
    TfliteOperator("L2_NORMALIZATION", "normalise:l2_normalization", versions=2),
    TfliteOperator("LOCAL_RESPONSE_NORMALIZATION", "normalise:local_response_normalization"),
)  # fmt: skip
