"""Names, shapes and dtypes: what a model takes and gives, and what `--input` says about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeAlias

Dim: TypeAlias = int | str | None
"""A size, the name of a dynamic axis, or None for a dynamic axis without a name."""

DTYPES = (
    "float16", "float32", "float64", "bfloat16", "bool", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32",
    "int64", "uint64", "complex64", "complex128", "str",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization of one tensor: ``real = scale * (integer - zero_point)``, per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: As the user knows it: what `inspect` prints and `--input` takes.
        shape: Sizes, with a name or None where an axis is dynamic; None where the rank is unknown.
        dtype: numpy's name, one of ``DTYPES``.
        quantization: The affine map of an integer tensor that stands for real numbers.
        values: The range (lowest, highest) that values may be drawn from, where something tells it:
            the rows of the table that an integer indexes, or the user's ``LO..HI``.
    """

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str
    quantization: Quantization | None = None
    values: tuple[float, float] | None = None

    @property
    def is_static(self) -> bool:
        return self.shape is not None and all(isinstance(dim, int) for dim in self.shape)

    def renamed(self, name: str) -> TensorSpec:
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Axis:
    """A dynamic axis: its name, its least and greatest size, and the size that stands for the usual case."""

    name: str
    low: int = 1
    high: int | None = None
    step: int = 1
    default: int | None = None

    def sizes(self) -> tuple[int, ...]:
        """The least, the default and the greatest size, without repetition.

        An axis without a greatest size is tried at one more than its default.
        """
        default = (
            self.default
            if self.default is not None
            else max(self.low, min(2 * self.step, self.high or 2 * self.step))
        )
        greatest = self.high if self.high is not None else default + self.step
        return tuple(dict.fromkeys((default, self.low, greatest)))


@dataclass(frozen=True, slots=True)
class InputOption:
    """One `--input [NAME=]DIM,DIM,...[:DTYPE[LO..HI]]`.

    Attributes:
        name: None where the option gave none: such options stand for the inputs in order.
        dims: A size or a dynamic axis each; empty for a scalar.
        dtype: numpy's name, or None to keep the source's.
        values: The range from which values are drawn, or None.
    """

    name: str | None
    dims: tuple[int | Axis, ...]
    dtype: str | None = None
    values: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int | str, ...]:
        return tuple(dim if isinstance(dim, int) else dim.name for dim in self.dims)


_RANGE = re.compile(
    r"(?P<name>[A-Za-z_]\w*)=(?P<low>\d+)\.\.(?P<high>\d+)(?:/(?P<step>\d+))?(?:@(?P<default>\d+))?"
)
_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_DTYPE = re.compile(rf"(?P<dtype>[a-z]+\d*)?(?:(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER}))?")


def parse_input(text: str) -> InputOption:
    """Read one value of `--input`.

    Raises:
        ValueError: The text is not of the option's grammar; the message says which part and what would do.
    """
    name, shape, rest = _split(text)
    if not shape:
        raise ValueError(f"`{text}` has no shape")
    dims = () if shape == "scalar" else tuple(_dim(part, text) for part in shape.split(","))
    dtype = values = None
    if rest is not None:
        match = _DTYPE.fullmatch(rest)
        if not match or not rest:
            raise ValueError(
                f"`{rest}` is not a dtype with an optional range of values, as in float32 or int64[0..999]"
            )
        dtype = match["dtype"]
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"`{dtype}` is not a dtype; these are: {', '.join(DTYPES)}")
        if match["low"] is not None:
            values = (float(match["low"]), float(match["high"]))
            if values[0] > values[1]:
                raise ValueError(f"the range {match['low']}..{match['high']} is empty")
    return InputOption(name, dims, dtype, values)


def _split(text: str) -> tuple[str | None, str, str | None]:
    """Name, shape and the part after the colon. A name may itself hold a colon (`serving_default_x:0=1,4`)."""
    name: str | None = None
    head, equals, tail = text.partition("=")
    if equals and "," not in head and not _RANGE.match(text):
        name, text = head.strip(), tail
    shape, colon, rest = text.partition(":")
    return name, shape.strip(), rest.strip().replace("[", "").replace("]", "") if colon else None


def _dim(part: str, text: str) -> int | Axis:
    part = part.strip()
    if part.isdigit():
        return int(part)
    if re.fullmatch(r"[A-Za-z_]\w*", part):
        return Axis(part)
    match = _RANGE.fullmatch(part)
    if not match:
        raise ValueError(
            f"`{part}` in `{text}` is neither a size, nor the name of an axis, nor a range such as batch=1..8@2"
        )
    low, high = int(match["low"]), int(match["high"])
    step, default = int(match["step"] or 1), int(match["default"]) if match["default"] else None
    if low > high or step < 1 or (default is not None and not low <= default <= high):
        raise ValueError(
            f"the range of axis `{match['name']}` in `{text}` is empty or leaves out its default"
        )
    return Axis(match["name"], low, high, step, default)


def with_input_options(
    specs: tuple[TensorSpec, ...], options: tuple[InputOption, ...]
) -> tuple[TensorSpec, ...]:
    """The signature with the user's shapes, dtypes and ranges laid over it.

    Options without a name stand for the inputs in order.

    Raises:
        UnknownInput: An option names an input that is not there, or there are more options than inputs.
        BadInputOption: An option's rank or fixed sizes contradict the signature.
    """
    from mlconv.errors import BadInputOption, UnknownInput

    by_name = {spec.name: index for index, spec in enumerate(specs)}
    changed = list(specs)
    for position, option in enumerate(options):
        index = (
            position
            if option.name is None
            else by_name.get(option.name, by_name.get(option.name.removesuffix(":0")))
        )
        if index is None or index >= len(specs):
            raise UnknownInput.named(option.name or f"number {position + 1}", [spec.name for spec in specs])
        spec = changed[index]
        if spec.shape is not None and len(spec.shape) != len(option.shape):
            raise BadInputOption(
                f"`--input` gives `{spec.name}` {len(option.shape)} axes, and the model has {len(spec.shape)}: {show_shape(spec.shape)}",
                fix=f"--input {spec.name}={show_shape(spec.shape)}",
            )
        for asked, own in zip(option.shape, spec.shape or (), strict=False):
            if isinstance(asked, int) and isinstance(own, int) and asked != own:
                raise BadInputOption(
                    f"`--input` gives `{spec.name}` the shape {show_shape(option.shape)}, and the model is fixed to {show_shape(spec.shape)}",
                    fix=f"--input {spec.name}={show_shape(spec.shape)}, or convert a source whose axes are dynamic",
                )
        changed[index] = replace(
            spec, shape=option.shape, dtype=option.dtype or spec.dtype, values=option.values or spec.values
        )
    return tuple(changed)


def axes_of(
    specs: tuple[TensorSpec, ...], options: tuple[InputOption, ...] = (), *, ranged_only: bool = False
) -> dict[str, Axis]:
    """Every named dynamic axis of a signature, with the range that `--input` gave it.

    Args:
        ranged_only: Leave out the axes to which the options give no range.
    """
    ranged = {dim.name: dim for option in options for dim in option.dims if isinstance(dim, Axis)}
    names = [dim for spec in specs for dim in spec.shape or () if isinstance(dim, str)]
    found = {name: ranged.get(name, Axis(name)) for name in names}
    return {name: axis for name, axis in found.items() if not ranged_only or axis != Axis(name)}


def show_shape(shape: tuple[Dim, ...] | None) -> str:
    """A shape as `--input` takes it: ``batch,3,224,224``; ``?`` for an axis without a name or an unknown rank."""
    if shape is None:
        return "?"
    return ",".join("?" if dim is None else str(dim) for dim in shape) or "scalar"
