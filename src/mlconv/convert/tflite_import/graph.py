"""The ONNX graph in the making: operators, constants, names. It knows nothing of TFLite but where a node came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.infer import infer
from mlconv.convert.tflite_import.isa import Isa
from mlconv.formats.tflite_graph import Model, Operator

OPERATOR = "mlconv.tflite"
"""Key in a node's ``metadata_props``: ``INDEX KIND OUTPUTS``, e.g. ``12 CONV_2D [45]``; behind ``SUBGRAPH/`` where that is not
the entry point's. A node that stands for several operators in a row names them all: ``0 CAST [1]; 1 QUANTIZE [2]``. ONNX
values bear the TFLite tensor's name, with ``:nchw`` behind it in that layout."""

FOLDED = "mlconv.tflite.folded"
"""Key in the model's ``metadata_props``: a JSON list of the operators that no node stands for, as ``INDEX KIND OUTPUTS``. They
are constants now, or part of another operator's nodes, or they change nothing."""

Dims: TypeAlias = "tuple[int | str | None, ...]"


class NotExpressible(Exception):
    """An operator, as it stands in the file, has no ONNX form; the text says why in half a sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the graph is written for.

    Attributes:
        opset: From 13, which has quantization per channel, to 18.
        optimize: Whether the result may be arranged for speed: `--optimize`.
        is_half: Whether float32 will be made float16, which holds no whole numbers beyond 2048: `--precision`.
    """

    opset: int
    isa: Isa
    optimize: bool = True
    is_half: bool = False


@dataclass(slots=True)
class State:
    """A variable of the source: an optional input of the artifact with its initial value, and an output.

    Attributes:
        given: Both an input and an initializer of the same name, which is the fresh state. It bears no constant value
            until the graph is finished: nothing may take it for a constant.
        initial: The fresh state.
        output: What the model leaves in it, in the file's own type; None where it changes nothing.
    """

    name: str
    given: ir.Value
    initial: np.ndarray
    output: ir.Value | None = None


@dataclass(slots=True)
class Shared:
    """What the emitters of all subgraphs of one model gather."""

    model: Model
    target: Target
    ref: str = ""  # what errors call the file
    warnings: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)  # names of values, in the whole model
    numbered: dict[str, int] = field(default_factory=dict)  # the first number that may be free behind a name
    states: dict[str, State] = field(default_factory=dict)  # by what stands for the variable in the file
    initial: dict[str, Any] = field(default_factory=dict)  # what CALL_ONCE put into resource variables
    unsupported: dict[str, list[int]] = field(default_factory=dict)  # told -> indices of operators
    inside: int = 0  # how often a subgraph was written inside of another
    written: int = 0  # operators of subgraphs that were written inside of others
    eight_bit: int = 0  # convolutions and products that run on 8-bit integers
    saturating: list[str] = field(default_factory=list)  # of those, outputs of the ones that can saturate
    read: dict[str, None] = field(default_factory=dict)  # every operator that was read, as ``OPERATOR`` names it, in order


class Writer:
    """An ONNX graph, operator by operator.

    Attributes:
        where: What stands before the numbers of operators that belong to no main graph: ``3/``.
        current: The TFLite operator that is being written.
        merged: The operators in front of ``current`` that its nodes stand for too.
    """

    def __init__(self, shared: Shared, where: str) -> None:
        self.shared, self.where = shared, where
        self.nodes: list[ir.Node] = []
        self.initializers: dict[str, ir.Value] = {}
        self.current: Operator | None = None
        self.merged: tuple[Operator, ...] = ()
        self.pool: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @property
    def target(self) -> Target:
        return self.shared.target

    def op(self, kind: str, *operands: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Write an ONNX operator with one output; its type and shape are inferred at once."""
        return self.ops(kind, *operands, domain=domain, outputs=1, **attributes)[0]

    def ops(self, kind: str, *operands: ir.Value | None, outputs: int, domain: str = "", **attributes: Any) -> tuple[ir.Value, ...]:
        """The same with several outputs."""
        number, operator, where = len(self.nodes), self.current, self.where
        label = f"{where}{operator.kind if operator.custom is None else operator.custom}_{operator.index}" if operator else f"{where}signature"
        attrs = [_attribute(key, value) for key, value in attributes.items()]
        node = ir.Node(domain, kind, operands, attrs, num_outputs=outputs, name=f"{label}/{kind}_{number}")
        if operator is not None:
            node.metadata_props[OPERATOR] = "; ".join(map(self.origin, (*self.merged, operator)))
        for position, value in enumerate(node.outputs):
            value.name = self.unique(f"{label}/{kind}_{number}{f'_{position}' if position else ''}")
        infer(node, self.target.opset)
        self.nodes.append(node)
        return tuple(node.outputs)

    def origin(self, operator: Operator) -> str:
        """What ``OPERATOR`` says of it."""
        return f"{self.where}{operator.index} {operator.kind} {json.dumps(list(operator.outputs))}"

    def const(self, array: Any, name: str = "", *, own: bool = False) -> ir.Value:
        """An initializer; equal ones are one, unless it shall be its operator's ``own``."""
        array = np.asarray(array)
        if not array.flags.c_contiguous:  # ascontiguousarray would make a scalar one-dimensional
            array = np.ascontiguousarray(array)
        content = array.tobytes() if array.nbytes <= _POOLED_BYTES else hashlib.sha256(array.data).digest()
        key = (str(array.dtype), array.shape, content)
        if key in self.pool and not own:
            return self.pool[key]
        chosen = self.unique(name or f"constant_{len(self.initializers)}")
        value = ir.Value(name=chosen, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                         const_value=ir.tensor(array, name=chosen))  # fmt: skip
        self.initializers[chosen] = value
        if not own:
            self.pool[key] = value
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """A constant of int64, one axis."""
        return self.const(np.array(numbers, np.int64))

    def unique(self, name: str) -> str:
        """``name``, or a variant of it that nothing else in the model bears."""
        chosen, number = name, self.shared.numbered.get(name, 1)
        while chosen in self.shared.taken:
            chosen, number = f"{name}__{number}", number + 1
        self.shared.taken.add(chosen)
        self.shared.numbered[name] = number
        return chosen

    def reserve(self, names: Iterable[str]) -> None:
        """Names of inputs and outputs, which nothing else may bear."""
        self.shared.taken.update(names)

    # -------------------------------------------------------------- operators whose form depends on the opset, or on what is known

    def transpose(self, value: ir.Value, *, to_channels_first: bool, name: str = "") -> ir.Value:
        """``value`` in the other layout."""
        if value.shape is None:
            raise NotExpressible("the number of its axes is known only while the model runs")
        rank = len(value.shape)
        perm = (0, rank - 1, *range(1, rank - 1)) if to_channels_first else (0, *range(2, rank), 1)
        made = self.op("Transpose", value, perm=perm)
        if name:
            made.name = name
        return made

    def shape_of(self, value: ir.Value) -> ir.Value:
        """The sizes as int64; a constant where they are known."""
        dims = dims_of(value) if value.shape is not None else ()
        if value.shape is not None and all(isinstance(dim, int) for dim in dims):
            return self.ints(*(int(dim) for dim in dims if isinstance(dim, int)))
        return self.op("Shape", value)

    def reshape(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        """To constant sizes: one may be -1; 0 means no elements."""
        if 0 in shape and self.target.opset >= 14:
            return self.op("Reshape", value, self.ints(*shape), allowzero=1)
        return self.op("Reshape", value, self.ints(*shape))

    def reduce(self, kind: str, value: ir.Value, axes: Sequence[int], *, keepdims: bool) -> ir.Value:
        """``ReduceMean`` and the like over constant axes; opset 18 takes axes as an input, ReduceSum from 13."""
        if self.target.opset >= 18 or kind == "ReduceSum":
            return self.op(kind, value, self.ints(*axes), keepdims=int(keepdims))
        return self.op(kind, value, axes=tuple(axes), keepdims=int(keepdims))

    def split(self, value: ir.Value, axis: int, lengths: Sequence[int]) -> tuple[ir.Value, ...]:
        """Along an axis, into parts of constant lengths."""
        return self.ops("Split", value, self.ints(*lengths), outputs=len(lengths), axis=axis)


_POOLED_BYTES = 256
"""Greater constants are told apart by their digest: weights that several operators share are stored once."""


def _attribute(name: str, value: Any) -> ir.Attr:
    """As ``ir.convenience``, which asks every value whether it is any of many protocols: half the time of an import."""
    if isinstance(value, int):
        return ir.AttrInt64(name, int(value))
    if isinstance(value, (list, tuple)) and value and all(type(item) is int for item in value):
        return ir.AttrInt64s(name, value)
    return ir.convenience.convert_attribute(name, value)


def dims_of(value: ir.Value) -> Dims:
    assert value.shape is not None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
