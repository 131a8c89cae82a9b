"""Names, shapes and dtypes: what a model takes and gives, and what `--input` says about it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mlconv.errors import MlconvError

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
    """A dynamic axis: its name, the sizes that it takes, and the size that stands for the usual case.

    Attributes:
        name: Empty where `--input` gave none (``?``, ``-1``): the source's own name, or one made up, takes its place.
        low, high: The least and the greatest size; ``high`` is None for an axis without an end.
        step: Sizes are multiples of it.
        default: The usual size, where something tells it.
        choices: The only sizes, where shapes were enumerated, in their order. Axes with choices move together: all
            take their first, then all their second.
        tie: Another axis, a factor and an offset, where the size follows from that: ``("n", 2, 1)`` is ``2 * n + 1``.
    """

    name: str
    low: int = 1
    high: int | None = None
    step: int = 1
    default: int | None = None
    choices: tuple[int, ...] = ()
    tie: tuple[str, int, int] | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing tells which sizes are meant."""
        return self.high is None and self.default is None and self.tie is None

    def sizes(self) -> tuple[int, ...]:
        """The default, the least and the greatest size, without repetition; or the choices.

        An axis without a greatest size is tried at one more than its default.
        """
        if self.choices:
            return tuple(dict.fromkeys(self.choices))
        default = (
            self.default
            if self.default is not None
            else max(self.low, min(2 * self.step, self.high if self.high is not None else 2 * self.step))
        )
        greatest = self.high if self.high is not None else default + self.step
        return tuple(dict.fromkeys((default, self.low, greatest)))

    def show(self) -> str:
        """As `--input` takes it: ``n``, ``n=1..8/2@4``, ``?``."""
        if not self.name:
            return "?"
        if self.high is None or self.choices:
            return self.name
        step = f"/{self.step}" if self.step > 1 else ""
        default = f"@{self.default}" if self.default is not None else ""
        return f"{self.name}={self.low}..{self.high}{step}{default}"


@dataclass(frozen=True, slots=True)
class InputOption:
    """One `--input [NAME=]DIM,DIM,...[:DTYPE[LO..HI]]`; ``mlconv.input_grammar`` reads it.

    Attributes:
        name: None where the option gave none: such options stand for the inputs that no other names, in order.
        dims: A size or a dynamic axis each; empty for a scalar.
        dtype: numpy's name, or None to keep the source's.
        values: The range from which values are drawn, or None.
        shapes: The enumerated shapes, where the name was given more than once; empty otherwise. Core ML takes them as
            they are; in ``dims`` the axes at which they differ are dynamic, with the sizes as their choices.
    """

    name: str | None
    dims: tuple[int | Axis, ...]
    dtype: str | None = None
    values: tuple[float, float] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def shape(self) -> tuple[int | str | None, ...]:
        return tuple(dim if isinstance(dim, int) else dim.name or None for dim in self.dims)

    def show(self) -> str:
        """What stands behind the name, as it is typed."""
        shape = ",".join(str(dim) if isinstance(dim, int) else dim.show() for dim in self.dims) or "scalar"
        values = f"[{show_range(self.values)}]" if self.values else ""
        return f"{shape}:{self.dtype or ''}{values}" if self.dtype or values else shape


def same_name(asked: str, own: str) -> bool:
    """Whether `--input` means this input: a ``:0`` at the end may be left out, and put where there is none."""
    return asked.removesuffix(":0") == own.removesuffix(":0")


def places(names: Sequence[str], options: Sequence[InputOption]) -> list[int]:
    """Of each option the number of its input; options without a name stand for the inputs that none names, in order.

    Raises:
        UnknownInput: An option names an input that is not there, or there are more options than inputs.
        BadInputOption: Two options mean one input.
    """
    from mlconv.errors import BadInputOption, UnknownInput

    found: list[int | None] = []
    for option in options:
        exact = [number for number, own in enumerate(names) if own == option.name]
        alike = [number for number, own in enumerate(names) if same_name(option.name or "", own)]
        if option.name is not None and not alike:
            raise UnknownInput.named(option.name, names, option.show())
        number = (exact or alike)[0] if option.name is not None else None
        if number is not None and number in found:
            raise BadInputOption(
                f"two `--input` mean `{names[number]}`: `{options[found.index(number)].name}` and `{option.name}`",
                fix=f"{typed(names[number], '...')}, and the same name again for each further shape",
            )
        found.append(number)
    free = iter([number for number in range(len(names)) if number not in found])
    placed = []
    for position, number in enumerate(found):
        filled = number if number is not None else next(free, None)
        if filled is None:
            raise one_too_many(position, names, options)
        placed.append(filled)
    return placed


def one_too_many(position: int, names: Sequence[str], options: Sequence[InputOption]) -> MlconvError:
    """What to say of an option without a name that is left when every input has its own."""
    from mlconv.errors import UnknownInput, listed

    if not names:
        return UnknownInput.named(f"number {position + 1}", names)
    told = "1 input" if len(names) == 1 else f"{len(names)} inputs"
    return UnknownInput(
        f"there are {len(options)} `--input`, and the model has {told}: {listed(names)}",
        why="options without a name stand for the inputs in order; several shapes of one input need its name",
        fix=" ".join(typed(names[0], option.show()) for option in options)
        if len(names) == 1
        else "leave the last out",
    )


def with_input_options(
    specs: tuple[TensorSpec, ...], options: tuple[InputOption, ...]
) -> tuple[TensorSpec, ...]:
    """The signature with the user's shapes, dtypes and ranges laid over it.

    Raises:
        UnknownInput: An option names an input that is not there, or there are more options than inputs.
        BadInputOption: An option's rank or fixed sizes contradict the signature, or its range the dtype.
    """
    changed = list(specs)
    for option, index in zip(options, places([spec.name for spec in specs], options), strict=True):
        changed[index] = _laid_over(specs[index], option)
    return tuple(changed)


def _laid_over(spec: TensorSpec, option: InputOption) -> TensorSpec:
    from mlconv.errors import BadInputOption

    own, asked = spec.shape, option.shape
    if own is not None and len(own) != len(asked):
        raise BadInputOption(
            f"`--input` gives `{spec.name}` {len(asked)} {'axis' if len(asked) == 1 else 'axes'}, and the model has {len(own)}: {show_shape(own)}",
            fix=typed(spec.name, show_shape(own)),
        )
    if any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(asked, own or (), strict=False)
    ):
        raise BadInputOption(
            f"`--input` gives `{spec.name}` the shape {show_shape(asked)}, and the model is fixed to {show_shape(own)}",
            fix=f"{typed(spec.name, show_shape(own))}, or convert a source whose axes are dynamic",
        )
    dtype = option.dtype or spec.dtype
    fault = values_fault(option.values, dtype)
    if fault is not None and option.values is not None:
        raise BadInputOption(
            f"`--input` draws `{spec.name}` from {show_range(option.values)}, and {fault}",
            fix=typed(
                spec.name, f"{replace(option, dtype=None, values=None).show()}:{dtype}{_near_values(dtype)}"
            ),
        )
    shape = tuple(_own_name(dim, number, spec) if dim is None else dim for number, dim in enumerate(asked))
    return replace(spec, shape=shape, dtype=dtype, values=option.values or spec.values)


def _own_name(_: None, number: int, spec: TensorSpec) -> Dim:
    """What stands for ``?``: the axis as the source has it, else ``batch`` for the first and the input's name for others."""
    own = spec.shape[number] if spec.shape is not None else None
    if own is not None:
        return own
    return (
        "batch" if number == 0 else f"{re.sub(r'[^0-9A-Za-z_]', '_', spec.name.removesuffix(':0'))}_{number}"
    )


def values_fault(values: tuple[float, float] | None, dtype: str) -> str | None:
    """Why values of a dtype cannot be drawn from a range, in words; None where they can."""
    if values is None or dtype.startswith(("float", "bfloat")):
        return None
    limits = limits_of(dtype)
    if limits is None:
        return f"{dtype} takes no range"
    if any(value != int(value) for value in values):
        return f"{dtype} takes whole numbers"
    if values[0] < limits[0] or values[1] > limits[1]:
        return f"{dtype} holds {limits[0]}..{limits[1]}"
    return None


def limits_of(dtype: str) -> tuple[int, int] | None:
    """The least and the greatest number of an integer type; 0 and 1 of bool; None for all others."""
    if dtype == "bool":
        return 0, 1
    match = re.fullmatch(r"(u?)int(\d+)", dtype)
    if match is None:
        return None
    bits = int(match[2])
    return (0, 2**bits - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _near_values(dtype: str) -> str:
    limits = limits_of(dtype)
    return f"[{max(limits[0], 0)}..{min(limits[1], 99)}]" if limits else ""


def show_range(values: tuple[float, float]) -> str:
    """``LO..HI`` as `--input` takes it: whole numbers without a point."""
    low, high = (str(int(end)) if end == int(end) else repr(end) for end in values)
    return f"{low}..{high}"


def typed(name: str, rest: str) -> str:
    """``--input NAME=REST`` as it is typed in a shell."""
    return f"--input {shlex.quote(f'{name}={rest}')}"


def axes_of(
    specs: tuple[TensorSpec, ...], options: tuple[InputOption, ...] = (), *, ranged_only: bool = False
) -> dict[str, Axis]:
    """Every named dynamic axis of a signature, with the range that `--input` gave it.

    Args:
        ranged_only: Leave out the axes to which the options give no range.
    """
    named = [dim for option in options for dim in option.dims if isinstance(dim, Axis)]
    ranged = {
        dim.name: dim for dim in named if dim != Axis(dim.name)
    }  # once told, it holds wherever the name stands
    names = [dim for spec in specs for dim in spec.shape or () if isinstance(dim, str)]
    found = {name: ranged.get(name, Axis(name)) for name in names}
    return {name: axis for name, axis in found.items() if not ranged_only or axis != Axis(name)}


def with_ties(sizes: Mapping[str, int], axes: Mapping[str, Axis]) -> dict[str, int]:
    """The sizes with those that follow from another's."""
    found = dict(sizes)
    for name, axis in axes.items():
        if axis.tie is not None and axis.tie[0] in sizes:
            base, factor, offset = axis.tie
            found[name] = factor * sizes[base] + offset
    return found


def show_shape(shape: tuple[Dim, ...] | None, axes: Mapping[str, Axis] = MappingProxyType({})) -> str:
    """A shape as `--input` takes it: ``batch,3,224,224``; ``?`` for an axis without a name or an unknown rank.

    Args:
        axes: Those whose ranges are shown too: ``length=1..6``.
    """
    if shape is None:
        return "?"
    dims = (axes[dim].show() if isinstance(dim, str) and dim in axes else dim for dim in shape)
    return ",".join("?" if dim is None else str(dim) for dim in dims) or "scalar"
