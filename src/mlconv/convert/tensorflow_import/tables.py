"""The integer inputs of a TensorFlow function that index a table, as ``formats.index_ranges`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlconv.formats.index_ranges import Index, Key, Kind, Step, ranges
from mlconv.runners.tensorflow import dtype_name, tensorflow, tf_dtype
from mlconv.tensors import TensorSpec, limits_of

_MOST_ELEMENTS = 1 << 20  # of a constant that is read: offsets and masks are small

_FIRST = frozenset({
    "Identity", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "Slice", "Transpose", "Tile", "BroadcastTo", "Unpack",
    "SplitV", "StopGradient", "EnsureShape", "ReverseV2", "Max", "Min", "Snapshot", "GatherV2", "Gather", "GatherNd",
    "PreventGradient", "CheckNumerics", "PlaceholderWithDefault", "Rint", "Floor", "Ceil", "Round", "Roll",
})  # fmt: skip
"""Operators whose outputs hold values of their first input alone."""
_KINDS: dict[str, Kind] = {
    "AddV2": "add", "Add": "add", "AddN": "add", "Sub": "sub", "Mul": "mul", "FloorDiv": "div", "FloorMod": "mod",
    "Minimum": "min", "Maximum": "max", "Neg": "neg", "Abs": "abs", "Sign": "sign", "SelectV2": "where", "Select": "where",
    "Pack": "hull", "Less": "less", "LessEqual": "less_equal", "Equal": "equal", "NotEqual": "not_equal",
    "LogicalNot": "not", "LogicalAnd": "and", "LogicalOr": "or",
}  # fmt: skip
_SWAPPED: dict[str, Kind] = {"Greater": "less", "GreaterEqual": "less_equal"}


def table_ranges(
    call: Callable[[dict[str, Any]], Mapping[str, Any]], inputs: Sequence[TensorSpec]
) -> dict[str, tuple[int, int]]:
    """For integer inputs that index a table of known size: the lowest and highest value that every use of it takes.

    Args:
        call: A function of tensors by input name, which TensorFlow can trace.

    Returns:
        Nothing where it cannot be traced.
    """
    followed = {
        number: spec.dtype
        for number, spec in enumerate(inputs)
        if spec.dtype != "bool" and limits_of(spec.dtype)
    }
    if not followed:
        return {}
    try:
        graph, placeholders = _graph(call, inputs)
    except Exception:  # tracing runs every layer's own code; a session's function is none
        return {}
    steps: list[Step] = []
    indices: list[Index] = []
    for operation in graph.get_operations():
        if operation.name not in placeholders:
            steps += _steps(operation)
            indices += _indices(operation)
    keys: dict[Key, str] = {
        f"{name}:0": followed[number] for name, number in placeholders.items() if number in followed
    }
    found = ranges(keys, steps, indices)
    names = {f"{name}:0": inputs[number].name for name, number in placeholders.items()}
    return {names[str(key)]: value for key, value in found.items()}


def _graph(
    call: Callable[[dict[str, Any]], Mapping[str, Any]], inputs: Sequence[TensorSpec]
) -> tuple[Any, dict[str, int]]:
    """The function as a graph without variables and calls, and its placeholders with the numbers of the inputs."""
    tf = tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = [spec.name for spec in inputs]
    arguments = [
        tf.TensorSpec(
            None if spec.shape is None else [dim if isinstance(dim, int) else None for dim in spec.shape],
            tf_dtype(spec.dtype), name=f"mlconv_{number:04d}",
        )
        for number, spec in enumerate(inputs)
    ]  # fmt: skip

    def flat(*tensors: Any) -> Any:
        return dict(call(dict(zip(names, tensors, strict=True))))

    concrete = tf.function(flat, autograph=False).get_concrete_function(*arguments)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    placeholders = {
        operation.name: int(operation.name.removeprefix("mlconv_"))
        for operation in frozen.graph.get_operations()
        if operation.type == "Placeholder" and operation.name.startswith("mlconv_")
    }
    return frozen.graph, placeholders


def _steps(operation: Any) -> Iterator[Step]:
    """What an operator does with integers; nothing where intervals cannot tell."""
    kind = operation.type
    outputs = [tensor.name for tensor in operation.outputs]
    given = tuple(tensor.name for tensor in operation.inputs)
    if kind == "Const":
        yield from _constant(operation)
    elif not given or not outputs:
        return
    elif kind == "Cast":
        to_bool = dtype_name(operation.outputs[0].dtype) == "bool"
        yield Step("truth" if to_bool else "keep", outputs[0], given[:1])
    elif kind in _FIRST:
        yield from (Step("keep", output, given[:1]) for output in outputs)
    elif kind in _KINDS:
        yield Step(_KINDS[kind], outputs[0], given)
    elif kind in _SWAPPED:
        yield Step(_SWAPPED[kind], outputs[0], given[::-1])
    elif kind == "ConcatV2":
        yield Step("hull", outputs[0], given[:-1])
    elif kind == "Split":
        yield from (Step("keep", output, given[1:2]) for output in outputs)
    elif kind == "ClipByValue":
        yield Step("max", f"{outputs[0]}:raised", given[:2])
        yield Step("min", outputs[0], (f"{outputs[0]}:raised", given[2]))
    elif kind in ("Pad", "PadV2"):
        filled = given[2] if len(given) > 2 else f"{outputs[0]}:filled"
        if len(given) < 3:
            yield Step("constant", filled)
        yield Step("hull", outputs[0], (given[0], filled))
    elif kind == "Range":
        yield Step("hull", outputs[0], given[:2])


def _constant(operation: Any) -> Iterator[Step]:
    import numpy as np
    import tensorflow as tf

    proto = operation.get_attr("value")
    elements = int(np.prod([float(dim.size) for dim in proto.tensor_shape.dim]))
    dtype = dtype_name(proto.dtype)
    if (
        limits_of(dtype) is None and dtype not in ("float32", "float64")
    ) or not 0 < elements <= _MOST_ELEMENTS:
        return
    array = tf.make_ndarray(proto)
    if array.size and np.isfinite(array).all():
        yield Step("constant", operation.outputs[0].name, value=(float(array.min()), float(array.max())))


def _indices(operation: Any) -> Iterator[Index]:
    """The places where the values of a tensor choose a row. TensorFlow refuses negative ones."""
    kind, given = operation.type, operation.inputs
    if kind in ("GatherV2", "Gather"):
        axis = _number(given[2]) if len(given) > 2 else 0
        table = given[0].shape
        if (
            axis is not None
            and table.rank is not None
            and -table.rank <= axis < table.rank
            and table[axis] is not None
        ):
            yield Index(given[1].name, int(table[axis]))
    elif kind == "GatherNd" and given[0].shape.rank and given[1].shape.rank and given[1].shape[-1]:
        rows = given[0].shape.as_list()[: given[1].shape[-1]]
        if all(rows):
            yield Index(given[1].name, min(rows))
    elif kind == "OneHot":
        depth = _number(given[1])
        if depth is not None:
            yield Index(given[0].name, depth)


def _number(tensor: Any) -> int | None:
    import tensorflow as tf

    value = tf.get_static_value(tensor)
    return None if value is None else int(value)
