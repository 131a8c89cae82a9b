"""Operators on two operands, element by element: arithmetic, comparison, logic, choice."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

OPERATORS = (
    TfliteOperator(
        "ADD",
        "arithmetic:add",
        versions=6,
        limits="of 16-bit sums of equal shapes, 1 of 10,000 of the last 7 elements is 1 off; not at scales where LiteRT overflows",
        worst_lsb=1,
    ),
    TfliteOperator("SUB", "arithmetic:sub", exact="8-bit", versions=5),
    TfliteOperator(
        "MUL", "arithmetic:mul", exact="8-bit", versions=8, limits="not at scales where LiteRT overflows"
    ),
    TfliteOperator("DIV", "arithmetic:div", versions=2, limits="16-bit quotients have no exact form"),
    TfliteOperator("SQUARED_DIFFERENCE", "arithmetic:squared_difference", exact="8-bit", versions=2),
    TfliteOperator("MAXIMUM", "arithmetic:maximum", exact="8-bit", versions=4),
    TfliteOperator("MINIMUM", "arithmetic:minimum", exact="8-bit", versions=4),
    TfliteOperator(
        "POW",
        "arithmetic:power",
        exact="floats",
        limits="whole numbers that overflow, where the exponent is computed or beyond 64",
    ),
    TfliteOperator("FLOOR_DIV", "arithmetic:floor_div", exact="floats", versions=3),
    TfliteOperator("FLOOR_MOD", "arithmetic:floor_mod", exact="floats", versions=2),
    TfliteOperator("ADD_N", "arithmetic:add_n", exact="floats"),
    TfliteOperator("ATAN2", "arithmetic:atan2", exact="floats"),
    TfliteOperator("EQUAL", "compare:compare", versions=5),
    TfliteOperator("NOT_EQUAL", "compare:compare", versions=4),
    TfliteOperator("LESS", "compare:compare", versions=3),
    TfliteOperator("LESS_EQUAL", "compare:compare", versions=2),
    TfliteOperator("GREATER", "compare:compare", versions=2),
    TfliteOperator("GREATER_EQUAL", "compare:compare", versions=3),
    TfliteOperator("LOGICAL_AND", "compare:logical"),
    TfliteOperator("LOGICAL_OR", "compare:logical"),
    TfliteOperator("LOGICAL_NOT", "compare:logical_not"),
    TfliteOperator("BITWISE_XOR", "compare:bitwise_xor", limits="on integers it needs opset 18"),
    TfliteOperator("RIGHT_SHIFT", "compare:right_shift"),
    TfliteOperator("SELECT", "choose:select", versions=4),
    TfliteOperator("SELECT_V2", "choose:select_v2", versions=2),
)
