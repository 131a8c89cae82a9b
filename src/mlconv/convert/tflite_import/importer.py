"""A TFLite model as an ONNX model: its operators in order, and all that cannot be expressed in one error."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mlconv.convert.signature import unsupported
from mlconv.convert.tflite_import.chains import chains
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.entry import needed
from mlconv.convert.tflite_import.graph import FOLDED, OPERATOR, NotExpressible, Shared, State, Target
from mlconv.convert.tflite_import.ops.variables import give_states
from mlconv.convert.tflite_import.pads import fold_pads
from mlconv.convert.tflite_import.sizes import work_out
from mlconv.convert.tflite_import.sound import assert_sound
from mlconv.errors import ConverterFailed, Corrupt, MlconvError
from mlconv.formats.tflite_graph import Model, Operator
from mlconv.formats.tflite_operators import known
from mlconv.runners.litert import Entry
from mlconv.runners.onnx_types import STATES
from mlconv.tensors import TensorSpec

Read: TypeAlias = Callable[[Emitter, Operator], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a model.

    Attributes:
        model: Its graph's inputs and outputs bear the names of the specs; states follow the outputs.
        eight_bit: Convolutions and products on 8-bit integers.
        saturating: Of those, the tensors whose sums can saturate on x86 without VNNI.
    """

    model: ir.Model
    warnings: tuple[str, ...]
    states: tuple[State, ...]
    eight_bit: int
    saturating: tuple[str, ...]


def import_model(
    model: Model, entry: Entry, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], target: Target, ref: str
) -> Imported:
    """One entry point of a file as an ONNX model.

    Args:
        inputs: ``entry.inputs`` as they shall be called and shaped, in the same order.
        outputs: The same for outputs.
        ref: What errors call the file.

    Raises:
        UnsupportedOperator: Operators without an ONNX form; all of them, by number and reason.
        Corrupt: The file contradicts itself.
    """
    assert_sound(model, entry, ref)
    try:
        return _imported(model, entry, inputs, outputs, target, ref)
    except (MlconvError, MemoryError):
        raise
    except Exception as error:  # beside the operators, each of which is looked after by itself
        raise _refusal(f"`{ref}`", error) from error


def _imported(model: Model, entry: Entry, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], target: Target, ref: str) -> Imported:
    shared = Shared(model, target, ref)
    emitter = Emitter(shared, model.subgraphs[entry.subgraph])
    emitter.reserve([spec.name for spec in (*inputs, *outputs)])
    given = [emitter.take(index, spec) for (index, _), spec in zip(entry.inputs, inputs, strict=True)]
    read_operators(emitter, [index for index, _ in entry.outputs])
    if shared.unsupported:
        raise unsupported(ref, _told(shared.unsupported))
    made = [emitter.give(index, spec.name) for (index, _), spec in zip(entry.outputs, outputs, strict=True)]
    states = tuple(give_states(emitter))
    graph = ir.Graph(
        [*given, *(state.given for state in states)], [*made, *(state.output for state in states if state.output is not None)],
        nodes=emitter.nodes, initializers=list(emitter.initializers.values()), opset_imports={"": target.opset}, name="graph",
    )  # fmt: skip
    if target.optimize:
        fold_pads(graph)
    imported = ir.Model(graph, ir_version=8)
    if states:
        imported.metadata_props[STATES] = json.dumps({state.name: state.output.name for state in states if state.output is not None})
    RemoveUnusedNodesPass()(imported)  # forms that nobody asked for, arithmetic on sizes that turned out to be known
    folded = _folded(imported.graph, shared)
    if folded:
        imported.metadata_props[FOLDED] = json.dumps(folded)
    return Imported(imported, tuple(shared.warnings), states, shared.eight_bit, tuple(shared.saturating))


def _folded(graph: ir.Graph, shared: Shared) -> list[str]:
    """The operators of which no node tells, in the order in which they were read."""
    told = {origin for node in graph.all_nodes() for origin in node.metadata_props.get(OPERATOR, "").split("; ")}
    return [origin for origin in shared.read if origin not in told]


def read_operators(emitter: Emitter, outputs: Sequence[int]) -> None:
    """Write every operator of the emitter's subgraph that some of its tensors need; what cannot be is gathered."""
    operators = needed(emitter.shared.model, emitter.graph, outputs)
    collapsed = chains(emitter, operators, outputs)
    for operator in operators:
        emitter.current, chain = operator, collapsed.get(operator.index)
        emitter.merged = chain.operators[:-1] if chain is not None else ()
        emitter.shared.read[emitter.origin(operator)] = None
        try:
            if chain is not None:
                chain.write(emitter)
            elif operator.index not in collapsed:
                written = len(emitter.nodes)
                _reader(operator)(emitter, operator)
                work_out(emitter, operator, emitter.nodes[written:])
        except NotExpressible as error:
            _gather(emitter, operator, str(error))
        except (MlconvError, MemoryError):
            raise
        except Exception as error:
            _gather_or_refuse(emitter, operator, error)
        emitter.current, emitter.merged = None, ()


def _gather_or_refuse(emitter: Emitter, operator: Operator, error: Exception) -> None:
    """What an operator's function did not expect: its operands contradict each other, or what stands in for others' outputs does."""
    if emitter.shared.unsupported:
        _stand_in(emitter, operator)
        return
    lacking = re.search(r"has unsupported type:? tensor\((\w+)\)", str(error))
    if lacking:
        _gather(emitter, operator, f"its ONNX form takes no {lacking[1]}")
        return
    raise _refusal(f"operator {operator.index} ({operator.name}) of `{emitter.shared.ref}`", error) from error


_CONTRADICTIONS = (InferenceError, ValidationError, ValueError, IndexError, ArithmeticError)
"""What operands provoke that do not fit each other, in onnx and in numpy; nothing else is the file's fault."""


def _refusal(where: str, error: Exception) -> MlconvError:
    """The file's fault, or mlconv's: then the next converter may still do it."""
    why = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, _CONTRADICTIONS):
        return Corrupt(f"{where} contradicts itself or its operands", why=why,
                       fix="get the file again, or write it again; if LiteRT runs it, report a defect of mlconv")  # fmt: skip
    return ConverterFailed(f"mlconv's TFLite importer failed at {where}", why=why,
                           fix="report it as a defect of mlconv: --debug shows where it happened")  # fmt: skip


def _reader(operator: Operator) -> Read:
    """The function that writes an operator.

    Raises:
        NotExpressible: There is none, or the operator is of a version that may mean more.
    """
    entry = known(operator)
    if entry is None or not entry.read:
        raise NotExpressible(entry.limits if entry is not None else "")
    if operator.version > entry.versions:
        raise NotExpressible(f"version {operator.version}, and {entry.versions} is the newest known")
    return _function(entry.read)


@functools.cache
def _function(name: str) -> Read:
    family, _, function = name.partition(":")
    read: Read = getattr(importlib.import_module(f"mlconv.convert.tflite_import.ops.{family}"), function)
    return read


def _gather(emitter: Emitter, operator: Operator, reason: str) -> None:
    """Note what cannot be expressed."""
    name = f"custom `{operator.custom}`" if operator.custom is not None else operator.kind
    emitter.shared.unsupported.setdefault(f"{name}|{reason}", []).append(operator.index)
    _stand_in(emitter, operator)


def _stand_in(emitter: Emitter, operator: Operator) -> None:
    """Something in place of an operator's outputs, so that what comes after it can be looked at too."""
    for index in operator.outputs:
        if index >= 0 and not emitter.has(index, channels_first=False):
            tensor = emitter.tensor(index)
            value = ir.Value(name=emitter.name(index), shape=ir.Shape(tensor.dims) if tensor.dims is not None else None)
            codes = emitter.codes(index)
            dtype = codes.dtype if codes is not None else tensor.dtype
            if dtype == "bfloat16":
                value.type = ir.TensorType(ir.DataType.BFLOAT16)
            elif dtype in np.sctypeDict and dtype != "str":  # resources and types below a byte have none
                value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
            emitter.put(index, value)


def _told(gathered: dict[str, list[int]]) -> list[str]:
    """``HASHTABLE_LOOKUP (#12)``, ``custom `Sinh` (#31)``, in the order of the first."""
    told = []
    for key, places in sorted(gathered.items(), key=lambda item: item[1][0]):
        name, _, reason = key.partition("|")
        numbers = ", ".join(f"#{index}" for index in places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")
        told.append(f"{name} ({numbers}{f': {reason}' if reason else ''})")
    return told
