"""Every TFLite operator that mlconv knows, in one table, by family.

To add one: an entry in its family's file here, how many operands and results it has in ``forms``, and the function that the
entry names in ``convert/tflite_import/ops``.
"""

from __future__ import annotations

from types import MappingProxyType

from mlconv.formats.tflite_graph import Operator
from mlconv.formats.tflite_operators import (
    activation,
    arithmetic,
    control,
    conv,
    detection,
    index,
    inexpressible,
    pool,
    quantize,
    recurrent,
    reduce,
    shape,
    stablehlo,
)
from mlconv.formats.tflite_operators.entry import TfliteOperator

_FAMILIES = (
    conv,
    pool,
    arithmetic,
    activation,
    quantize,
    reduce,
    shape,
    index,
    recurrent,
    control,
    stablehlo,
    detection,
    inexpressible,
)

OPERATORS = MappingProxyType(
    {(entry.custom, entry.kind): entry for family in _FAMILIES for entry in family.OPERATORS}
)


def known(operator: Operator) -> TfliteOperator | None:
    """The table's entry of an operator, by its builtin kind or its custom name."""
    custom = operator.custom is not None
    return OPERATORS.get((custom, operator.custom if operator.custom is not None else operator.kind))
