"""The signature of an exported program: its inputs by name, its dynamic axes, and how it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument

from mlconv.errors import BadInputOption, UnsupportedType
from mlconv.runners.torch_eager import Pack, dtype_name
from mlconv.tensors import Axis, InputOption, TensorSpec, axes_of, show_shape, with_input_options

_OPEN = 1 << 31  # torch writes ranges without an end as int_oo, and once as 2**63 - 2


@dataclass(frozen=True, slots=True)
class ProgramSignature:
    """What ``Source`` takes from a program.

    Attributes:
        fixed: Whether `--input` gave a dynamic axis a size, so that the program has to be traced again.
        trains: Whether operators of training mode are part of it.
    """

    inputs: tuple[TensorSpec, ...]
    pack: Pack
    axes: dict[str, Axis]
    fixed: bool
    trains: bool


def program_signature(
    program: torch.export.ExportedProgram, options: tuple[InputOption, ...], ref: str
) -> ProgramSignature:
    """Inputs in the order of `forward`. A dynamic first axis is called ``batch``, others ``INPUT_AXIS``.

    A `.pt2` does not keep the names that its author gave the axes: symbols are all that it has.

    Raises:
        UnsupportedType: An input is a number and no tensor.
        BadInputOption: `--input` asks for a dynamic axis where the program is fixed.
    """
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    arguments = [
        spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT
    ]
    axes: dict[str, Axis] = {}
    symbols: dict[str, str] = {}
    expressions: dict[str, Any] = {}
    specs = []
    for argument in arguments:
        if isinstance(argument, ConstantArgument):
            continue
        if not isinstance(argument, TensorArgument):
            raise UnsupportedType(
                f"input `{argument.name}` of `{ref}` is a number, and ONNX inputs are tensors",
                fix="export a module whose forward takes tensors",
            )
        specs.append(_spec(argument.name, values[argument.name], program, symbols, axes, expressions))
    own = tuple(specs)
    axes = _with_ties(axes, expressions)
    inputs = with_input_options(own, options)
    _refuse_new_axes(own, inputs, ref)
    pairs = [
        (old, new)
        for before, after in zip(own, inputs, strict=True)
        for old, new in zip(before.shape or (), after.shape or (), strict=True)
    ]
    # what is said of an axis of one input holds for it in all
    said = {old: new for old, new in pairs if isinstance(old, str) and new != old}
    inputs = tuple(
        replace(
            spec, shape=tuple(said.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape or ())
        )
        for spec in inputs
    )
    found = axes_of(inputs, options)
    for name, axis in axes.items():
        new = said.get(name, name)
        if isinstance(new, str) and found[new] == Axis(new):
            found[new] = replace(axis, name=new)
    found = {name: _tied_now(axis, said) for name, axis in found.items()}
    fixed = any(isinstance(old, str) and isinstance(new, int) for old, new in pairs)
    return ProgramSignature(inputs, _packer(program, arguments), found, fixed, _trains(program))


def _spec(
    name: str,
    value: torch.Tensor,
    program: torch.export.ExportedProgram,
    symbols: dict[str, str],
    axes: dict[str, Axis],
    expressions: dict[str, Any],
) -> TensorSpec:
    shape: list[int | str] = []
    sizes: tuple[Any, ...] = tuple(value.shape)  # torch.SymInt where an axis is dynamic
    for number, size in enumerate(sizes):
        if isinstance(size, int):
            shape.append(size)
            continue
        expression = str(size.node.expr)
        if expression not in symbols:
            wish = "batch" if number == 0 else f"{name}_{number}"
            while wish in axes:
                wish = f"{name}_{number}" if wish == "batch" else wish + "_"
            symbols[expression] = wish
            axes[wish] = _axis(wish, size.node.expr, program)
            expressions[wish] = size.node.expr
        shape.append(symbols[expression])
    return TensorSpec(name, tuple(shape), dtype_name(value.dtype))


def _axis(name: str, expression: Any, program: torch.export.ExportedProgram) -> Axis:
    """The range of a symbol; a multiple of one (``4*s0``) has that step."""
    linear = _linear(expression)
    symbol, factor, offset = linear if linear is not None else (expression, 1, 0)
    bounds = program.range_constraints.get(symbol)
    step = factor if not offset else 1
    if bounds is None:
        return Axis(name, step, None, step)
    low = max(int(bounds.lower), 1) if bounds.lower.is_Integer else 1
    high = (
        int(bounds.upper)
        if getattr(bounds.upper, "is_Integer", False) and int(bounds.upper) < _OPEN
        else None
    )
    return Axis(name, low * factor + offset, high * factor + offset if high is not None else None, step)


def _linear(expression: Any) -> tuple[Any, int, int] | None:
    """Symbol, factor and offset of ``2*s0 + 1``; None where a size is no such thing."""
    offset, product = expression.as_coeff_Add()
    factor, symbol = product.as_coeff_Mul()
    if not symbol.is_Symbol or not factor.is_Integer or not offset.is_Integer or factor < 1:
        return None
    return symbol, int(factor), int(offset)


def _with_ties(axes: dict[str, Axis], expressions: dict[str, Any]) -> dict[str, Axis]:
    """Axes of one symbol follow from that of the least factor: ``2*n`` beside ``n``."""
    known = {name: linear for name, expression in expressions.items() if (linear := _linear(expression))}
    found = dict(axes)
    for name, (symbol, factor, offset) in known.items():
        same = [(other[1], key) for key, other in known.items() if other[0] == symbol]
        base = min(same)[1]
        _, least, start = known[base]
        if base != name and factor % least == 0:
            times = factor // least
            found[name] = replace(axes[name], tie=(base, times, offset - times * start))
    return found


def _tied_now(axis: Axis, said: dict[str, int | str | None]) -> Axis:
    """A tie after `--input` has renamed or fixed the axis that it follows."""
    if axis.tie is None or axis.tie[0] not in said:
        return axis
    base, (_, factor, offset) = said[axis.tie[0]], axis.tie
    if isinstance(base, int):
        size = factor * base + offset
        return Axis(axis.name, size, size)
    return replace(axis, tie=(str(base), factor, offset))


def _refuse_new_axes(own: Sequence[TensorSpec], asked: Sequence[TensorSpec], ref: str) -> None:
    for spec, wish in zip(own, asked, strict=True):
        pairs = zip(spec.shape or (), wish.shape or (), strict=True)
        if any(isinstance(old, int) and isinstance(new, str) for old, new in pairs):
            raise BadInputOption(
                f"`{ref}` was exported with the fixed shape {show_shape(spec.shape)} of `{spec.name}`",
                why=f"`--input` asks for {show_shape(wish.shape)}, and a program cannot be made dynamic afterwards",
                fix="export it with dynamic_shapes, or convert the nn.Module itself (FILE.py:NAME)",
            )


def _packer(program: torch.export.ExportedProgram, arguments: Sequence[Any]) -> Pack:
    tree = program.call_spec.in_spec

    def pack(tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = iter(tensors)
        flat = [
            argument.value if isinstance(argument, ConstantArgument) else next(given)
            for argument in arguments
        ]
        args, kwargs = tree.unflatten(flat)
        return tuple(args), dict(kwargs)

    return pack


def _trains(program: torch.export.ExportedProgram) -> bool:
    """Whether a dropout or batch norm of the program does what it does in training."""
    where = {torch.ops.aten.dropout.default: 2, torch.ops.aten.batch_norm.default: 5}
    return any(
        node.op == "call_function" and node.target in where and len(node.args) > where[node.target]
        and node.args[where[node.target]] is True
        for node in program.graph.nodes
    )  # fmt: skip
