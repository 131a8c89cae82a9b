"""The integer inputs of a TFLite graph that index a table, as ``index_ranges`` takes them."""

from __future__ import annotations

from collections.abc import Iterator

from mlconv.formats.index_ranges import Index, Interval, Key, Kind, Step, ranges
from mlconv.formats.tflite_graph import Model, Operator, Subgraph, Tensor
from mlconv.tensors import limits_of

_MOST_ELEMENTS = 1 << 20  # of a constant that is read: offsets and masks are small

_FIRST = frozenset({
    "CAST", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "TILE", "BROADCAST_TO", "UNPACK",
    "GATHER", "GATHER_ND", "REVERSE_V2", "REDUCE_MAX", "REDUCE_MIN", "SPLIT_V", "BATCH_TO_SPACE_ND",
})  # fmt: skip
"""Operators whose outputs hold values of their first input alone."""
_KINDS: dict[str, Kind] = {
    "ADD": "add", "SUB": "sub", "MUL": "mul", "FLOOR_DIV": "div", "DIV": "div", "FLOOR_MOD": "mod", "MINIMUM": "min",
    "MAXIMUM": "max", "NEG": "neg", "ABS": "abs", "SIGN": "sign", "SELECT": "where", "SELECT_V2": "where",
    "CONCATENATION": "hull", "PACK": "hull", "LESS": "less", "LESS_EQUAL": "less_equal", "EQUAL": "equal",
    "NOT_EQUAL": "not_equal", "LOGICAL_NOT": "not", "LOGICAL_AND": "and", "LOGICAL_OR": "or",
}  # fmt: skip
_SWAPPED: dict[str, Kind] = {"GREATER": "less", "GREATER_EQUAL": "less_equal"}


def value_ranges(model: Model, signature: str | None = None) -> dict[str, tuple[int, int]]:
    """For integer inputs that index a table of known size: the lowest and highest value that every use of it takes."""
    entry = model.signature(signature)
    graph = model.subgraphs[entry.subgraph]
    inputs: dict[Key, str] = {
        index: tensor.dtype
        for index in entry.inputs.values()
        if limits_of((tensor := graph.tensors[index]).dtype) and tensor.quantization is None
    }
    if not any(dtype != "bool" for dtype in inputs.values()):
        return {}
    steps = [step for tensor in graph.tensors for step in _constant(tensor)]
    steps += [step for operator in graph.operators for step in _steps(graph, operator)]
    indices = [index for operator in graph.operators for index in _indices(graph, operator)]
    found = ranges(inputs, steps, indices)
    return {name: found[index] for name, index in entry.inputs.items() if index in found}


def _constant(tensor: Tensor) -> Iterator[Step]:
    value = _extent(tensor)
    if value is not None:
        yield Step("constant", tensor.index, value=value)


def _extent(tensor: Tensor) -> Interval | None:
    from mlconv.errors import MlconvError

    known = limits_of(tensor.dtype) is not None or tensor.dtype == "float32"
    if (
        not tensor.is_constant
        or not known
        or not 0 < tensor.elements <= _MOST_ELEMENTS
        or tensor.quantization
    ):
        return None
    try:
        array = tensor.array()
    except MlconvError:  # stored sparsely, or damaged: another part of the reader tells
        return None
    return (float(array.min()), float(array.max())) if array.size else None


def _steps(graph: Subgraph, operator: Operator) -> Iterator[Step]:
    """What an operator does with integers; nothing where intervals cannot tell, or where they stand for real numbers."""
    outputs = [out for out in operator.outputs if out >= 0]
    if not outputs or not operator.inputs or any(graph.tensors[out].quantization for out in outputs):
        return
    kind, given = operator.kind, tuple(operator.inputs)
    if kind == "CAST" and graph.tensors[outputs[0]].dtype == "bool":
        yield Step("truth", outputs[0], given[:1])
    elif kind in _FIRST:
        yield from (Step("keep", out, given[:1]) for out in outputs)
    elif kind == "SPLIT":
        yield from (Step("keep", out, given[1:2]) for out in outputs)
    elif kind in _KINDS:
        yield Step(_KINDS[kind], outputs[0], given)
    elif kind in _SWAPPED:
        yield Step(_SWAPPED[kind], outputs[0], given[::-1])
    elif kind in ("PAD", "PADV2"):
        filled: Key = given[2] if len(given) > 2 else ("zero", operator.index)
        if len(given) < 3:
            yield Step("constant", filled)
        yield Step("hull", outputs[0], (given[0], filled))


def _indices(graph: Subgraph, operator: Operator) -> Iterator[Index]:
    """The places where the values of a tensor choose a row. LiteRT refuses negative ones."""
    kind, given = operator.kind, operator.inputs
    if kind == "GATHER" and len(given) > 1:
        yield from _rows(graph.input(operator, 0), operator.integer("axis"), given[1])
    elif kind == "EMBEDDING_LOOKUP" and len(given) > 1:
        yield from _rows(graph.input(operator, 1), 0, given[0])
    elif kind == "ONE_HOT" and len(given) > 1:
        depth = graph.input(operator, 1)
        extent = _extent(depth) if depth is not None else None
        if extent is not None:
            yield Index(given[0], int(extent[1]))
    elif kind in ("GATHER_ND", "SCATTER_ND") and len(given) > 1:
        at = 1 if kind == "GATHER_ND" else 0
        data, index = graph.input(operator, 0) if at else graph.output(operator), graph.input(operator, at)
        width = index.shape[-1] if index is not None and index.shape else 0
        if data is not None and data.dims is not None and 0 < width <= len(data.dims):
            rows = [dim for dim in data.dims[:width] if isinstance(dim, int)]
            if len(rows) == width:
                yield Index(given[at], min(rows))


def _rows(table: Tensor | None, axis: int, values: int) -> Iterator[Index]:
    dims = (table.dims if table is not None else None) or ()
    if -len(dims) <= axis < len(dims):
        rows = dims[axis]
        if isinstance(rows, int):
            yield Index(values, rows)
