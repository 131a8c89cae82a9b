"""What runtimes let pass and the checker does not, mended without changing what a model computes.

Order, names, unused opset imports and stale types of intermediate values are mended by the canonical form.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from mlconv.convert.onnx_graph.shapes import inferred
from mlconv.errors import listed
from mlconv.runners.onnx_types import states_told

_LIFTED_FROM = (
    256  # elements; a Constant's tensor of this size is a weight, and may then lie outside the model file
)
_DEFAULTS_IR = 4  # onnx.proto: before IR version 4 every initializer had to be an input


def repaired(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """The mended model, and a sentence for each thing that somebody might miss."""
    model = model.clone()
    notes = [*_missing_imports(model), *_duplicate_names(model), *_constants_as_inputs(model)]
    LiftConstantsToInitializersPass(size_limit=_LIFTED_FROM)(model)
    model, stale = _stale_outputs(model)
    return model, notes + stale


def _missing_imports(model: ir.Model) -> list[str]:
    """Domains whose operators are used, and of which no opset is imported: onnxruntime takes their first."""
    used = {node.domain for node in model.graph.all_nodes()} - {"", "ai.onnx"}
    missing = sorted(used - model.graph.opset_imports.keys())
    model.graph.opset_imports.update(dict.fromkeys(missing, 1))
    return [f"no opset of {listed(missing)} was imported; the artifact imports version 1"] if missing else []


def _duplicate_names(model: ir.Model) -> list[str]:
    count = Counter(node.name for node in model.graph if node.name)
    names = sorted(name for name, times in count.items() if times > 1 and name is not None)
    return (
        [f"several operators were called {listed(names)}; they have names of their own now"] if names else []
    )


def _constants_as_inputs(model: ir.Model) -> list[str]:
    graph = model.graph
    states = states_told(model.metadata_props)  # their defaults are the fresh state
    constants = [value for value in graph.inputs if value.is_initializer() and value.name not in states]
    # where all weights are inputs, an exporter of old did so by habit, and nobody means to replace them
    meant = model.ir_version >= _DEFAULTS_IR and len(constants) < len(graph.initializers)
    for value in constants:
        graph.inputs.remove(value)
    if not constants or not meant:
        return []
    names = listed([value.name or "" for value in constants])
    return [f"{names} had a default value that a caller could replace; the artifact has it as a constant"]


def _stale_outputs(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """Outputs whose declared shape cannot be, by what inference knows from the inputs."""
    known = inferred(model, outputs=False)
    notes = []
    for own, truth in zip(model.graph.outputs, known.graph.outputs, strict=True):
        if own.type is None:
            own.type = truth.type
        if own.producer() is None or own.shape is None or truth.shape is None:
            continue
        if len(own.shape) != len(truth.shape) or any(map(_differ, own.shape, truth.shape)):
            notes.append(
                f"output `{own.name}` was declared as {_show(own.shape)}, and the model gives {_show(truth.shape)}"
            )
            own.shape = truth.shape
    return model, notes


def _differ(one: object, other: object) -> bool:
    return isinstance(one, int) and isinstance(other, int) and one != other


def _show(shape: ir.Shape) -> str:
    return (
        "["
        + ",".join(
            "?" if isinstance(dim, ir.SymbolicDim) and dim.value is None else str(dim) for dim in shape
        )
        + "]"
    )
