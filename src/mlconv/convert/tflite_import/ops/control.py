"""Control flow: subgraphs as the bodies of ONNX's If and Loop.

Tensors cross the border as they are stored, in TFLite's layout. What a body only hands on, it takes from outside, where a
constant stays one. Constants of bodies stand in the main graph.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible, Shared
from mlconv.convert.tflite_import.importer import read_operators
from mlconv.convert.tflite_import.ops import variables
from mlconv.convert.tflite_import.ops.loop_sizes import agreed, sizes_of, widened
from mlconv.formats.tflite_graph import Operator, Subgraph

_ATTEMPTS = 8
"""Rounds in which the sizes of what a loop carries are widened; each gives up at least one size."""

_OPERATORS = 50_000
"""Of subgraphs, each time that they are written, rounds above included: 200 branches into one long subgraph are a file of
kilobytes and an import of minutes. 10,000 take about 2 s."""

_BODIES = 500
"""Subgraphs that call others twice, thirty deep, are a file of a few kilobytes and a graph of gigabytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Actual:
    """What a subgraph is called with: one of these, and how it is stored."""

    value: ir.Value | None = None
    constant: np.ndarray | None = None
    handle: str | None = None
    codes: Codes | None = None


def if_(e: Emitter, op: Operator) -> None:
    """A condition, and the operands of both branches."""
    chosen = _condition(e, e.stored(op.inputs[0]))
    graphs = [
        _subgraph(e, op.integer(name), op.inputs[1:], op.outputs)
        for name in ("then_subgraph_index", "else_subgraph_index")
    ]
    actuals = [_actual(e, index) for index in op.inputs[1:]]
    before = _held(e)
    bodies, results, assigned = [], [], []
    for graph in graphs:
        child = _body(e, graph, actuals)
        read_operators(child, graph.outputs)
        results.append(
            [_result(child, inner, e, outer) for inner, outer in zip(graph.outputs, op.outputs, strict=True)]
        )
        bodies.append(child)
        assigned.append(_held(e))
        _restore(e, before)
    changed = [
        key
        for key in assigned[1] | assigned[0]
        if any(held.get(key) is not before.get(key) for held in assigned)
    ]
    for child, given, held in zip(bodies, results, assigned, strict=True):
        given += [
            child.op("Identity", held.get(key) or variables.current(e, e.shared.states[key]))
            for key in changed
        ]
    if not results[0]:
        return
    then, otherwise = (_graph(child, [], given) for child, given in zip(bodies, results, strict=True))
    values = e.ops("If", chosen, outputs=len(results[0]), then_branch=then, else_branch=otherwise)
    for value, one, other in zip(values, *results, strict=True):
        value.type, value.shape = one.type, widened(one.shape, other.shape)
    for index, value in zip(op.outputs, values, strict=False):
        e.put(index, value)
    _assign(e, changed, values[len(op.outputs) :])


def while_(e: Emitter, op: Operator) -> None:
    """What is carried; the condition is looked at before each round."""
    condition = _subgraph(e, op.integer("cond_subgraph_index"), op.inputs, None)
    body = _subgraph(e, op.integer("body_subgraph_index"), op.inputs, op.inputs)
    actuals = [_actual(e, index) for index in op.inputs]
    carried = [
        position
        for position, (given, made) in enumerate(zip(body.inputs, body.outputs, strict=True))
        if given != made and actuals[position].handle is None
    ]
    initial = [e.stored(op.inputs[position]) for position in carried]
    first = _asked(e, condition, actuals)
    shapes, changed = [value.shape for value in initial], list[str]()
    for _ in range(_ATTEMPTS):
        with _attempt(e.shared) as keep:
            written = _round(e, body, condition, actuals, carried, initial, shapes, changed)
            wider = [
                agreed(shape, made, body, body.outputs[position])
                for shape, made, position in zip(shapes, written.made, carried, strict=True)
            ]
            if [sizes_of(shape) for shape in wider] == [sizes_of(shape) for shape in shapes] and set(
                written.changed
            ) <= set(changed):
                keep.append(True)
                break
            shapes, changed = wider, sorted({*changed, *written.changed})
    else:
        raise NotExpressible("the sizes of what it carries do not settle")
    starts = [*initial, *(variables.current(e, e.shared.states[key]) for key in changed)]
    if not starts:
        raise NotExpressible("its rounds change nothing, so that it ends at once or never")
    values = e.ops("Loop", None, first, *starts, outputs=len(starts), body=written.graph)
    for value, start, shape in zip(
        values, starts, [*shapes, *(e.shared.states[key].given.shape for key in changed)], strict=True
    ):
        value.type, value.shape = start.type, shape
    results = dict(zip(carried, values, strict=False))
    for position, (index, actual) in enumerate(zip(op.outputs, actuals, strict=True)):
        if index >= 0:
            if position in results:
                _assert_alike(e.codes(index), actual.codes)
                e.put(index, results[position])
            else:
                _bind(e, index, actual)
    _assign(e, changed, values[len(carried) :])


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """A loop's body; the shapes of what it carries on; the variables that it assigns."""

    graph: ir.Graph
    made: list[ir.Shape | None]
    changed: list[str]


def _round(
    e: Emitter, body: Subgraph, condition: Subgraph, actuals: Sequence[Actual], carried: Sequence[int], initial: Sequence[ir.Value],
    shapes: Sequence[ir.Shape | None], changed: Sequence[str],
) -> _Round:  # fmt: skip
    number = ir.Value(name=e.unique("round"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.INT64))
    told = ir.Value(name=e.unique("goes_on"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.BOOL))
    formals = [
        ir.Value(name=e.unique("carried"), shape=shape, type=value.type)
        for value, shape in zip(initial, shapes, strict=True)
    ]
    inside = list(actuals)
    for position, formal in zip(carried, formals, strict=True):
        inside[position] = dataclasses.replace(actuals[position], value=formal, constant=None)
    before = _held(e)
    states = []
    for key in changed:
        given = e.shared.states[key].given
        states.append(ir.Value(name=e.unique("carried"), shape=given.shape, type=given.type))
        e.shared.states[key].output = states[-1]
    entered = _held(e)
    child = _body(e, body, inside)
    read_operators(child, body.outputs)
    made = [_result(child, body.outputs[position], child, body.inputs[position]) for position in carried]
    after = _held(e)
    assigned = [key for key, value in after.items() if value is not entered.get(key)]
    for position, value in zip(carried, made, strict=True):
        inside[position] = dataclasses.replace(actuals[position], value=value, constant=None)
    goes_on = child.op("Identity", _asked(child, condition, inside))
    kept = [child.op("Identity", variables.current(e, e.shared.states[key])) for key in changed]
    _restore(e, before)
    graph = _graph(child, [number, told, *formals, *states], [goes_on, *made, *kept])
    return _Round(graph, [value.shape for value in made], assigned)


def _asked(e: Emitter, graph: Subgraph, actuals: Sequence[Actual]) -> ir.Value:
    """A condition's subgraph, written where the emitter writes."""
    child = _body(e, graph, actuals)
    child.nodes = e.nodes
    before = _held(e)
    read_operators(child, graph.outputs)
    if _held(e) != before:
        raise NotExpressible("its condition assigns a variable")
    return _condition(child, child.stored(graph.outputs[0]))


def _condition(e: Emitter, value: ir.Value) -> ir.Value:
    if value.dtype != ir.DataType.BOOL:
        raise NotExpressible("its condition is no boolean")
    return value if value.shape is not None and not len(value.shape) else e.reshape(value, ())


def _subgraph(e: Emitter, number: int, inputs: Sequence[int], outputs: Sequence[int] | None) -> Subgraph:
    """A subgraph that takes so many tensors and gives so many, or one.

    Raises:
        NotExpressible: It does not.
    """
    graph = e.shared.model.subgraphs[number]
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != (1 if outputs is None else len(outputs)):
        raise NotExpressible(f"subgraph {number} takes or gives another number of tensors")
    return graph


def _body(e: Emitter, graph: Subgraph, actuals: Sequence[Actual]) -> Emitter:
    e.shared.inside += 1
    e.shared.written += len(graph.operators)
    if e.shared.inside > _BODIES:
        raise NotExpressible(f"written out, subgraphs are run from more than {_BODIES} places")
    if e.shared.written > _OPERATORS:
        raise NotExpressible(f"written out, subgraphs are more than {_OPERATORS} operators")
    child = e.inside(graph)
    for index, actual in zip(graph.inputs, actuals, strict=True):
        _bind(child, index, actual)
    return child


def _graph(child: Emitter, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
    return ir.Graph(
        inputs,
        outputs,
        nodes=child.nodes,
        opset_imports={"": child.target.opset},
        name=child.unique(child.graph.name or "body"),
    )


def _actual(e: Emitter, index: int) -> Actual:
    if index < 0:
        raise NotExpressible("an operand that it passes on is left out")
    if index in e.handles:
        return Actual(handle=e.handles[index])
    constant = e.constant(index)
    return Actual(None if constant is not None else e.stored(index), constant, None, e.codes(index))


def _bind(e: Emitter, index: int, actual: Actual) -> None:
    """A tensor is what a subgraph was called with, or what it gave."""
    if actual.handle is not None:
        e.handles[index] = actual.handle
        return
    _assert_alike(e.codes(index), actual.codes)
    if actual.constant is not None:
        e.put_constant(index, actual.constant)
    elif actual.value is not None:
        e.borrow(index, actual.value)


def _result(child: Emitter, inner: int, e: Emitter, outer: int) -> ir.Value:
    """What a body gives: never an input of it, nor a value from outside, which ONNX refuses."""
    _assert_alike(child.codes(inner), e.codes(outer))
    return child.op("Identity", child.stored(inner))


def _assert_alike(own: Codes | None, other: Codes | None) -> None:
    """Codes cross borders as they are, so both sides must store them alike."""
    if (own and (own.dtype, own.shift)) != (other and (other.dtype, other.shift)):
        raise NotExpressible("a tensor is quantized on one side of a subgraph's border alone")


def _held(e: Emitter) -> dict[str, ir.Value]:
    """Variables that were assigned, and what they hold."""
    return {key: state.output for key, state in e.shared.states.items() if state.output is not None}


def _restore(e: Emitter, held: dict[str, ir.Value]) -> None:
    for key, state in e.shared.states.items():
        state.output = held.get(key)


def _assign(e: Emitter, keys: Sequence[str], values: Sequence[ir.Value]) -> None:
    for key, value in zip(keys, values, strict=True):
        e.shared.states[key].output = value


_GATHERED = frozenset({"warnings", "unsupported", "eight_bit", "saturating"})


@contextmanager
def _attempt(shared: Shared) -> Iterator[list[bool]]:
    """What is written meanwhile counts only where something is put into the list."""
    told = {
        field.name: copy.copy(getattr(shared, field.name))
        for field in dataclasses.fields(shared)
        if field.name in _GATHERED
    }
    keep: list[bool] = []
    yield keep
    if not keep:
        for name, value in told.items():
            setattr(shared, name, value)
