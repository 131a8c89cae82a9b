"""Sequences: their layout, and loops over their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible

Step: TypeAlias = Callable[[list[ir.Value], list[ir.Value]], tuple[list[ir.Value], list[ir.Value]]]
"""States and slices at one step -> states after it, and what it gives."""


@contextmanager
def inner(e: Emitter) -> Iterator[list[ir.Node]]:
    """Operators written meanwhile form the body of a loop; their constants stay outside."""
    outer, e.nodes = e.nodes, []
    try:
        yield e.nodes
    finally:
        e.nodes = outer


def scan(
    e: Emitter,
    states: Sequence[ir.Value],
    sequences: Sequence[ir.Value],
    step: Step,
    *,
    backwards: bool = False,
) -> tuple[list[ir.Value], list[ir.Value]]:
    """Run over the first axis of all sequences.

    Args:
        states: Of any shape and type, which stay as they are.
        backwards: From the last step to the first; what each gives lies where its slice lay.

    Returns:
        The states after the last step, and what the steps gave, stacked along a first axis.
    """
    carried = [_formal(e, value, value.shape) for value in states]
    slices = [
        _formal(e, value, None if value.shape is None else ir.Shape(list(value.shape)[1:]))
        for value in sequences
    ]
    with inner(e) as nodes:
        after, given = step(carried, slices)
        results = [
            e.op("Identity", value) for value in (*after, *given)
        ]  # an input of a body may not be its output
    body = ir.Graph(
        [*carried, *slices], results, nodes=nodes, opset_imports={"": e.target.opset}, name=e.unique("step")
    )
    direction = [int(backwards)]
    values = e.ops(
        "Scan", *states, *sequences, outputs=len(results), body=body, num_scan_inputs=len(sequences),
        scan_input_directions=direction * len(sequences), scan_output_directions=direction * len(given),
    )  # fmt: skip
    count = sequences[0].shape[0] if sequences[0].shape is not None else None
    for value, inside in zip(values, results, strict=True):
        value.type = inside.type
        value.shape = inside.shape
    for value in values[len(states) :]:
        value.shape = None if value.shape is None else ir.Shape([count, *value.shape])
    return list(values[: len(states)]), list(values[len(states) :])


def time_first(e: Emitter, value: ir.Value, *, time_major: bool) -> ir.Value:
    """A sequence (batch, time, features), or (time, batch, features) where it is ``time_major``, as the latter."""
    return value if time_major else _swapped(e, value)


def batch_first(e: Emitter, value: ir.Value, *, time_major: bool) -> ir.Value:
    """The inverse of ``time_first``."""
    return value if time_major else _swapped(e, value)


def batch_of(e: Emitter, sequence: ir.Value) -> ir.Value | int:
    """The second axis of a sequence whose first is time: a number, or int64 of one element."""
    if sequence.shape is None:
        raise NotExpressible("the number of its axes is known only while the model runs")
    size = sequence.shape[1]
    if isinstance(size, int):
        return size
    return e.op("Slice", e.op("Shape", sequence), e.ints(1), e.ints(2))


def _swapped(e: Emitter, value: ir.Value) -> ir.Value:
    """The first two axes exchanged; where one of them has one element, that is no move in memory."""
    if value.shape is not None and len(value.shape) == 3:
        first, second, depth = value.shape
        if first == 1 and isinstance(depth, int):
            return e.reshape(value, (second if isinstance(second, int) else -1, 1, depth))
        if second == 1 and isinstance(depth, int):
            return e.reshape(value, (1, first if isinstance(first, int) else -1, depth))
    return e.op("Transpose", value, perm=(1, 0, 2))


def _formal(e: Emitter, value: ir.Value, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=e.unique("step_input"), shape=shape, type=value.type)
