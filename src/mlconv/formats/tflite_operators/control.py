"""Control flow, variables and hash tables."""

from __future__ import annotations

from mlconv.formats.tflite_operators.entry import TfliteOperator

_TEXT = "tables have text for keys or values"

OPERATORS: tuple[TfliteOperator, ...] = (
    TfliteOperator("IF", "control:if_", limits="state of recurrent operators in a branch"),
    TfliteOperator("WHILE", "control:while_", limits="state of recurrent operators in the loop"),
    TfliteOperator("CALL_ONCE", "variables:call_once", limits="anything but constants for variables"),
    TfliteOperator("VAR_HANDLE", "variables:var_handle"),
    TfliteOperator("READ_VARIABLE", "variables:read_variable", limits="quantized variables"),
    TfliteOperator("ASSIGN_VARIABLE", "variables:assign_variable", limits="quantized variables"),
    TfliteOperator("CALL", limits="LiteRT has no kernel of it, so nothing says what is right"),
    TfliteOperator("HASHTABLE", limits=_TEXT),
    TfliteOperator("HASHTABLE_FIND", limits=_TEXT),
    TfliteOperator("HASHTABLE_IMPORT", limits=_TEXT),
    TfliteOperator("HASHTABLE_SIZE", limits=_TEXT),
)
