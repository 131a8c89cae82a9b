"""What a user asks of a model's signature, laid over what the model tells: names of axes, sizes, outputs, and what is in the way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mlconv.convert.job import Options
from mlconv.errors import BadInputOption, ShapesNeeded, UnknownOutput, UnsupportedOperator, listed, nearest
from mlconv.formats.refs import for_shell
from mlconv.tensors import Dim, TensorSpec, show_shape, typed, with_input_options


def laid_over(specs: Sequence[TensorSpec], options: Options) -> tuple[TensorSpec, ...]:
    """Inputs with names for their dynamic axes, and `--input` over them.

    Raises:
        UnknownInput: `--input` names none of them.
        BadInputOption: It contradicts a size or type that the source fixes.
    """
    own = with_axes(specs)
    given = with_input_options(own, options.input)
    for fixed, spec in zip(own, given, strict=True):
        if spec.dtype != fixed.dtype or any(
            isinstance(size, int) and not isinstance(dim, int)
            for size, dim in zip(fixed.shape or (), spec.shape or (), strict=False)
        ):
            raise BadInputOption(
                f"`--input` makes `{spec.name}` {spec.dtype}[{show_shape(spec.shape)}], and the model fixes it to {fixed.dtype}[{show_shape(fixed.shape)}]",
                fix=f"{typed(spec.name, show_shape(fixed.shape))}, or export the source with dynamic axes",
            )  # fmt: skip
    return given


def assert_ranked(specs: Iterable[TensorSpec]) -> None:
    """ONNX has no inputs of unknown rank.

    Raises:
        ShapesNeeded: Nothing tells how many axes one has.
    """
    for spec in specs:
        if spec.shape is None:
            raise ShapesNeeded(f"the model does not tell how many axes `{spec.name}` has",
                               fix=f"{typed(spec.name, '1,224,224,3')}, with its own sizes or names of axes")  # fmt: skip


def with_axes(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Names for the dynamic axes of inputs: ``batch``, ``height`` and ``width`` of an image, else ``INPUT_dimK``."""
    images = sum(1 for spec in specs if spec.shape is not None and _image_axes(spec.shape))
    named = []
    for spec in specs:
        prefix = re.sub(r"\W", "_", spec.name) + "_"
        own = _image_axes(spec.shape) if spec.shape is not None else {}
        shape = spec.shape and tuple(
            dim if dim is not None
            else "batch" if axis == 0
            else (own[axis] if images == 1 else prefix + own[axis]) if axis in own
            else f"{prefix}dim{axis}"
            for axis, dim in enumerate(spec.shape)
        )  # fmt: skip
        named.append(replace(spec, shape=shape))
    return tuple(named)


def _image_axes(shape: tuple[Dim, ...]) -> dict[int, str]:
    """The dynamic axes of rank 4 that are height and width: 1 and 2, or 2 and 3 where axis 1 alone has a size."""
    if len(shape) != 4:
        return {}
    first = 2 if isinstance(shape[1], int) and shape[3] is None else 1
    return {axis: name for axis, name in ((first, "height"), (first + 1, "width")) if shape[axis] is None}


def unknown_output(name: str, names: Sequence[str]) -> UnknownOutput:
    close = nearest(name, names) or list(names)[:1]
    return UnknownOutput(f"the model has no output `{name}`", why=f"it has {listed(names)}" if names else None,
                         fix=f"--outputs {for_shell(close[0])}" if close else "leave --outputs out")  # fmt: skip


def unsupported(ref: str, operators: Sequence[str], why: str | None = None) -> UnsupportedOperator:
    """The error that names every operator without an ONNX form, e.g. ``HASHTABLE_LOOKUP (#12)``."""
    count = "1 operator" if len(operators) == 1 else f"{len(operators)} operators"
    return UnsupportedOperator(
        f"{count} of `{ref}` {'has' if len(operators) == 1 else 'have'} no ONNX form: {', '.join(operators)}", why=why,
        fix="cut the model before them with --outputs, or see mlconv explain MLC214",
    )  # fmt: skip
