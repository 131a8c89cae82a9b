"""Axes fixed or named by `--input`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from mlconv.convert.onnx_graph.shapes import inferred
from mlconv.errors import BadInputOption
from mlconv.tensors import InputOption, TensorSpec, show_shape, typed, with_input_options


def with_inputs(model: ir.Model, specs: tuple[TensorSpec, ...], options: Sequence[InputOption]) -> ir.Model:
    """The model with the shapes that `--input` gives its inputs, and the sizes that follow for all other values.

    An axis that has a name is the same wherever the name stands: all of them are fixed or renamed together.

    Args:
        specs: The source's signature.

    Raises:
        UnknownInput, BadInputOption: An option does not fit the signature.
    """
    if not options:
        return model
    wanted = {spec.name: spec for spec in with_input_options(specs, tuple(options))}
    _assert_possible(specs, wanted)
    model = model.clone()
    renamed: dict[str, int | str] = {}
    for value in model.graph.inputs:
        spec = wanted.get(value.name or "")
        if spec is not None and spec.shape is not None:
            renamed |= _changes(value, spec)
            value.shape = ir.Shape(spec.shape)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([renamed.get(_name(dim), dim) for dim in value.shape])
    return _with_outputs_inferred(model)


def _assert_possible(specs: Sequence[TensorSpec], wanted: Mapping[str, TensorSpec]) -> None:
    for spec in specs:
        asked = wanted[spec.name]
        if asked.dtype != spec.dtype:
            raise BadInputOption(
                f"`--input` gives `{spec.name}` the type {asked.dtype}, and the model takes {spec.dtype}",
                fix=typed(spec.name, show_shape(asked.shape)),
            )
        for own, dim in zip(spec.shape or (), asked.shape or (), strict=False):
            if isinstance(own, int) and isinstance(dim, str):
                raise BadInputOption(
                    f"`--input` makes an axis of `{spec.name}` dynamic that the model fixes to {own}",
                    why="sizes inside the graph follow from it, and onnxruntime does not run the source at another",
                    fix=f"{typed(spec.name, show_shape(spec.shape))}, or export the source with a dynamic axis",
                )


def _changes(value: ir.Value, spec: TensorSpec) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for own, dim in zip(value.shape or (), spec.shape or (), strict=False):
        name = _name(own)
        if name and dim is not None and dim != name:
            if found.get(name, dim) != dim:
                raise BadInputOption(
                    f"`--input` gives the axis `{name}` of `{value.name}` two sizes: {found[name]} and {dim}",
                    fix=f"{typed(str(value.name), show_shape(spec.shape))} with one size for both",
                )
            found[name] = dim
    return found


def _name(dim: object) -> str:
    return str(dim.value) if isinstance(dim, ir.SymbolicDim) and dim.value is not None else ""


def _with_outputs_inferred(model: ir.Model) -> ir.Model:
    """Sizes of outputs that follow now; names that were declared stay where nothing follows."""
    known = inferred(model, outputs=False)
    for own, found in zip(model.graph.outputs, known.graph.outputs, strict=True):
        if found.shape is None:
            continue
        if own.shape is None or len(own.shape) != len(found.shape):
            own.shape = found.shape.copy()
        else:
            own.shape = ir.Shape(
                [
                    new if isinstance(new, int) else old
                    for old, new in zip(own.shape, found.shape, strict=True)
                ]
            )
    return inferred(model)
