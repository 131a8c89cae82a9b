"""ONNX's element types and shapes in mlconv's words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlconv.tensors import Dim

NUMPY_NAMES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "str", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip
"""TensorProto.DataType (onnx.proto) to numpy's name."""

STATES = "mlconv.states"
"""Key in a model's ``metadata_props``: JSON, by each optional input that is a variable of the source, the output that carries it on."""


def states_told(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a model's metadata tell of states: the output that carries on what each optional input begins with."""
    try:
        told = json.loads(metadata.get(STATES, "{}"))
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {given: output for given, output in told.items() if isinstance(output, str)}


def dims(shape: Sequence[Any]) -> tuple[Dim, ...]:
    """Sizes stay, names stay; an empty name or no name is a dynamic axis without a name."""
    return tuple(
        dim if isinstance(dim, int) and dim >= 0 else (dim if isinstance(dim, str) and dim else None)
        for dim in shape
    )
