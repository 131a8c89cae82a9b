"""One TFLite operator: what mlconv knows of it.

The functions that use a framework's objects are named, not imported: reading a file's table of operators (``inspect``)
imports neither numpy nor onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mlconv.formats.tflite_graph import Operator, Subgraph

MacsRule: TypeAlias = Callable[[Subgraph, Operator], "int | None"]
"""Multiply-accumulates of one run, from static shapes; None where a shape is not told."""


@dataclass(frozen=True, slots=True)
class TfliteOperator:
    """An entry of the table: one place for each direction.

    Attributes:
        kind: The builtin operator's name in the schema; a custom operator's own name with ``custom``.
        read: TFLite to ONNX: ``family:function`` of ``mlconv.convert.tflite_import.ops``, called as
            ``function(Emitter, Operator)``. Empty where ONNX cannot express it; ``limits`` then says why.
        write: ONNX to TFLite, in the same form; empty where mlconv does not write it.
        edge: Whether an Edge TPU takes it: ``module:function`` of ``mlconv.edge.rules``; empty where it never does.
        macs: None for an operator without multiply-accumulates worth counting (elementwise, pooling, moves).
        versions: The greatest version in the schema whose meaning is known here. A newer one is refused: it may mean more.
        limits: What of it has no ONNX form, in half a sentence; goes into the docs and into errors.
        exact: What is known of outputs in codes: ``8-bit`` where they are LiteRT's, code by code, in the tests; ``floats`` where
            it takes no codes; empty where nothing is said.
        worst_lsb: How far its integer outputs may lie from LiteRT's, where they cannot be made exact; and how often, in
            ``limits``.
        custom: Whether ``kind`` is the name of a custom operator.
    """

    kind: str
    read: str = ""
    write: str = ""
    edge: str = ""
    macs: MacsRule | None = None
    versions: int = 1
    limits: str = ""
    exact: str = ""
    worst_lsb: int = 0
    custom: bool = False
