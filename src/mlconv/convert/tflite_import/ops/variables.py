"""State: variable tensors of recurrent operators, and resource variables.

A variable becomes an optional input, whose initializer of the same name is the fresh state, and an output behind the
model's own. onnxruntime lists such an input among the overridable initializers: a plain run is one from fresh state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible, State
from mlconv.formats.tflite_graph import Operator, Tensor

OUTPUT_SUFFIX = "_out"


def variable(e: Emitter, index: int, batch: ir.Value | int) -> ir.Value:
    """What a variable tensor holds, in the file's own type.

    Args:
        batch: The size of its first axis: a number, or int64 of one element where only a run tells. LiteRT refuses batches
            other than the file's; here the fresh state is repeated for them.

    Raises:
        NotExpressible: It is no variable, or lives inside a loop or a branch.
    """
    tensor = e.tensor(index)
    if not tensor.is_variable:
        raise NotExpressible("its state is no variable tensor")
    state = e.shared.states.get(_key(e, index))
    if state is None:
        state = e.shared.states[_key(e, index)] = _fresh(e, index, batch)
    if state.output is not None:
        return state.output
    if isinstance(batch, int):
        return state.given
    sizes = e.op("Concat", batch, e.ints(*tensor.shape[1:]), axis=0)
    return e.op("Expand", state.given, sizes)


def assign(e: Emitter, index: int, value: ir.Value) -> None:
    """What the model leaves in a variable tensor, in the file's own type."""
    e.shared.states[_key(e, index)].output = value


def fresh(tensor: Tensor) -> np.ndarray:
    """What LiteRT's ``reset_all_variables`` fills a variable tensor with: zero, and int8's zero point for int8 alone.

    tensorflow/lite/core/api/tensor_utils.cc, ResetVariableTensor.
    """
    affine = tensor.quantization.per_tensor if tensor.quantization else None
    filling = affine.zero_point if affine is not None and tensor.dtype == "int8" else 0
    return np.full(tensor.shape, filling, tensor.dtype)


def give_states(e: Emitter) -> Iterator[State]:
    """The states that the model changes, as inputs and outputs of the main graph; the others stay constants."""
    for state in e.shared.states.values():
        state.given.const_value = ir.tensor(state.initial, name=state.name)
        e.initializers[state.name] = state.given
    changed = [state for state in e.shared.states.values() if state.output is not None]
    for state in changed:
        assert state.output is not None
        name = e.unique(state.name + OUTPUT_SUFFIX)
        state.output = e.op("Identity", state.output)
        state.output.name = name
        yield state
    if changed:
        inputs = ", ".join(f"`{state.name}`" for state in changed)
        outputs = ", ".join(f"`{state.output.name}`" for state in changed if state.output is not None)
        e.shared.warnings.append(
            f"the model keeps state from run to run: {inputs} became optional inputs, fresh where they are left out, and "
            f"{outputs} the outputs to feed them with"
        )


def var_handle(e: Emitter, op: Operator) -> None:
    """A resource variable by its names; what it holds is found by the operators that read it."""
    e.handles[op.outputs[0]] = f"variable {op.option('container', '')}/{op.option('shared_name', '')}"


def read_variable(e: Emitter, op: Operator) -> None:
    key = _handle(e, op.inputs[0])
    _assert_plain(e, op.outputs[0])
    e.put(op.outputs[0], current(e, _resource(e, key)))


def assign_variable(e: Emitter, op: Operator) -> None:
    key, value = _handle(e, op.inputs[0]), e.stored(op.inputs[1])
    _assert_plain(e, op.inputs[1])
    if key not in e.shared.states and key not in e.shared.initial:  # LiteRT cannot read it before this
        dims = e.dims(op.inputs[1])
        if dims is None or not all(isinstance(dim, int) for dim in dims):
            raise NotExpressible("nothing tells the size of the variable")
        sizes = [dim for dim in dims if isinstance(dim, int)]
        if math.prod(sizes) > _STATE_ELEMENTS:
            raise NotExpressible(f"its variable has the sizes {sizes}")
        e.shared.initial[key] = np.zeros(sizes, e.tensor(op.inputs[1]).dtype)
    _resource(e, key).output = value


def call_once(e: Emitter, op: Operator) -> None:
    """What a first run does: here, constants assigned to resource variables, which are their fresh state.

    Raises:
        NotExpressible: The subgraph does anything else.
    """
    graph = e.shared.model.subgraphs[op.integer("init_subgraph_index")]
    child = Emitter(e.shared, graph, e)
    for operator in graph.operators:
        if operator.kind == "VAR_HANDLE":
            var_handle(child, operator)
        elif operator.kind == "ASSIGN_VARIABLE" and child.constant(operator.inputs[1]) is not None:
            _assert_plain(child, operator.inputs[1])
            e.shared.initial[_handle(child, operator.inputs[0])] = child.constant(operator.inputs[1])
        else:
            raise NotExpressible(
                f"its subgraph runs {operator.name}, and constants for variables are all that is expressed"
            )


def current(e: Emitter, state: State) -> ir.Value:
    """What a resource variable holds at this point."""
    del e
    return state.given if state.output is None else state.output


def _resource(e: Emitter, key: str) -> State:
    """Raises: NotExpressible: Nothing gives the variable a value."""
    if key not in e.shared.states:
        initial = e.shared.initial.get(key)
        if initial is None:
            raise NotExpressible("nothing gives the variable its first value")
        name = e.unique(key.partition("/")[2] or "variable")
        e.shared.states[key] = _declared(name, np.asarray(initial), initial.shape)
    return e.shared.states[key]


def _handle(e: Emitter, index: int) -> str:
    if index not in e.handles:
        raise NotExpressible("its variable is chosen while the model runs")
    return e.handles[index]


def _assert_plain(e: Emitter, index: int) -> None:
    if e.codes(index) is not None:
        raise NotExpressible("its variable is quantized")


def _fresh(e: Emitter, index: int, batch: ir.Value | int) -> State:
    if e.parent is not None:
        raise NotExpressible("its state lives inside of a loop or a branch")
    tensor = e.tensor(index)
    _assert_meant(e, tensor, batch)
    initial = fresh(tensor)
    if isinstance(batch, int):
        initial = np.broadcast_to(initial[:1], (batch, *initial.shape[1:]))
    dims = initial.shape if isinstance(batch, int) else (None, *initial.shape[1:])
    return _declared(e.name(index), initial, dims)


_STATE_ELEMENTS = 1 << 24
"""States become constants of the artifact; the greatest that was met in a public model has 20 elements."""


def _assert_meant(e: Emitter, tensor: Tensor, batch: ir.Value | int) -> None:
    """Before anything is filled: a state of one sequence has no more elements than the operator's weights.

    Raises:
        NotExpressible: It has, or with the batch it is more than an artifact should hold.
    """
    row = math.prod(tensor.shape[1:])
    operands = e.current.inputs if e.current is not None else ()
    found = [e.dims(index) for index in operands if index >= 0 and not e.tensor(index).is_variable]
    known = [[dim for dim in dims if isinstance(dim, int)] for dims in found if dims is not None]
    most = max(map(math.prod, known), default=0)
    if row > most or max(tensor.elements, row * (batch if isinstance(batch, int) else 1)) > _STATE_ELEMENTS:
        raise NotExpressible(
            f"its state has the sizes {list(tensor.shape)}, and its greatest operand {most} elements"
        )


def _declared(name: str, initial: np.ndarray, dims: Sequence[int | None]) -> State:
    initial = initial.copy()
    value = ir.Value(
        name=name, shape=ir.Shape(dims), type=ir.TensorType(ir.DataType.from_numpy(initial.dtype))
    )
    return State(name, value, initial)


def _key(e: Emitter, index: int) -> str:
    return f"tensor {e.graph.index} {index}"
