"""What `forward` takes, what `--input` says about it, and example tensors of those shapes.

A NAME of `--input` is a parameter of `forward`. Where a parameter takes a container, ``batch.image`` is the value under
the key ``image`` of a dictionary and ``states.0`` the first element of a tuple; a name that no parameter has goes into
``**kwargs`` where `forward` has them, and into ``*args`` in the order of the command line.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from mlconv.checks.samples import draw
from mlconv.errors import BadInputOption, ShapesNeeded, UnknownInput
from mlconv.runners.torch_eager import Pack, to_torch
from mlconv.tensors import Axis, InputOption, TensorSpec, one_too_many, typed, with_input_options, with_ties

_DATA_NAMES = frozenset({"x", "input", "inputs", "image", "images", "img", "pixel_values"})
"""What parameters are called that the first layer reads; a mask or a scale has another shape."""

Path: TypeAlias = "tuple[str | int, ...]"
"""Where a tensor goes: a position or a keyword, then keys and indices into what stands there."""


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    required: bool = True
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a `forward`; ``args`` and ``kwargs`` are the names of its variadic ones."""

    named: tuple[Parameter, ...]
    args: str | None = None
    kwargs: str | None = None

    @property
    def names(self) -> list[str]:
        return [parameter.name for parameter in self.named]


def parameters_of(module: torch.nn.Module) -> Parameters:
    """What `forward` takes, of Python and of TorchScript alike."""
    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = module.forward.schema  # type: ignore[attr-defined]  # a ScriptMethod
        arguments = schema.arguments[1:]
        return Parameters(
            tuple(Parameter(a.name, not a.has_default_value(), a.kwarg_only) for a in arguments)
        )
    named, args, kwargs = [], None, None
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args = name
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs = name
        else:
            required = parameter.default is inspect.Parameter.empty
            named.append(Parameter(name, required, parameter.kind is inspect.Parameter.KEYWORD_ONLY))
    return Parameters(tuple(named), args, kwargs)


def signature(
    module: torch.nn.Module, options: Sequence[InputOption], ref: str
) -> tuple[tuple[TensorSpec, ...], Pack]:
    """The inputs that `--input` describes, in the order of `forward`, and where each goes.

    Raises:
        ShapesNeeded: A parameter without a default has no `--input`.
        UnknownInput: A name that `forward` does not take.
    """
    parameters = parameters_of(module)
    placed = _placed(options, parameters)
    covered = {
        path[0] if isinstance(path[0], str) else _positional(parameters, path[0]) for _, path in placed
    }
    missing = [p.name for p in parameters.named if p.required and p.name not in covered]
    if missing or not placed:
        given = [
            text for option, (name, _) in zip(options, placed, strict=True) for text in _retyped(option, name)
        ]
        raise _shapes_needed(module, parameters, missing, ref, given)
    order = {name: number for number, name in enumerate(parameters.names)}
    told = [replace(option, name=name) for option, (name, _) in zip(options, placed, strict=True)]
    by_parameter = sorted(
        zip(told, placed, strict=True), key=lambda item: order.get(str(item[1][1][0]), len(order))
    )
    specs = tuple(TensorSpec(name, None, "float32") for _, (name, _) in by_parameter)
    specs = with_input_options(specs, tuple(option for option, _ in by_parameter))
    return specs, _packer(parameters, [path for _, (_, path) in by_parameter])


def _placed(options: Sequence[InputOption], parameters: Parameters) -> list[tuple[str, Path]]:
    """Of each option the input's name and where it goes; those without a name take what none names, in order.

    Raises:
        UnknownInput: There is no such parameter, or no further one.
        BadInputOption: Two options mean one parameter.
    """
    names = parameters.names
    extra = itertools.count(len(names))
    found: dict[int, tuple[str, Path]] = {}
    for number, option in enumerate(options):
        if option.name is not None:
            found[number] = _named(option, option.name, parameters, extra)
    _assert_apart(list(found.values()))
    taken = {path[0] for _, path in found.values()}
    free = iter([name for name in names if name not in taken])
    for number in range(len(options)):
        if number in found:
            continue
        name = next(free, None)
        if name is not None:
            found[number] = name, (name,)
        elif parameters.args:
            position = next(extra)
            found[number] = f"{parameters.args}_{position - len(names)}", (position,)
        else:
            raise one_too_many(number, names, options)
    return [found[number] for number in range(len(options))]


def _named(option: InputOption, asked: str, parameters: Parameters, extra: Iterator[int]) -> tuple[str, Path]:
    names = parameters.names
    name = asked if asked in names else asked.removesuffix(":0")
    head, *rest = name.split(".")
    if head in names:
        return name, (head, *(int(part) if part.isdigit() else part for part in rest))
    if parameters.kwargs:
        return name, (head, *rest)
    if parameters.args:
        return name, (next(extra),)
    raise UnknownInput.named(asked, names, option.show())


def _assert_apart(placed: Sequence[tuple[str, Path]]) -> None:
    for number, (name, path) in enumerate(placed):
        if path in [other for _, other in placed[:number]]:
            raise BadInputOption(
                f"two `--input` mean the parameter `{name}`", fix=f"{typed(name, '...')} once"
            )


def _positional(parameters: Parameters, position: int) -> str:
    return parameters.names[position] if position < len(parameters.named) else ""


def _packer(parameters: Parameters, paths: Sequence[Path]) -> Pack:
    positions = {p.name: number for number, p in enumerate(parameters.named) if not p.keyword_only}
    given = {path[0] for path in paths}
    # with *args every parameter before them must be given by position; else keywords leave room for defaults
    leading = {
        name: number
        for name, number in positions.items()
        if parameters.args or _unbroken(positions, name, given)
    }

    def pack(tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tree: dict[str | int, Any] = {}
        for path, tensor in zip(paths, tensors, strict=True):
            head = leading.get(path[0], path[0]) if isinstance(path[0], str) else path[0]
            _put(tree, (head, *path[1:]), tensor)
        plain = {key: _sequences(value) for key, value in tree.items()}
        args = tuple(plain[key] for key in sorted(key for key in plain if isinstance(key, int)))
        return args, {key: value for key, value in plain.items() if isinstance(key, str)}

    return pack


def _unbroken(positions: Mapping[str, int], name: str, given: set[str | int]) -> bool:
    """Whether every parameter before this one is given too."""
    return all(other in given for other, number in positions.items() if number <= positions[name])


def _put(tree: dict[str | int, Any], path: Path, tensor: torch.Tensor) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = tensor


def _sequences(value: Any) -> Any:
    """Dictionaries whose keys are 0, 1, 2... are tuples."""
    if not isinstance(value, dict):
        return value
    items = {key: _sequences(item) for key, item in value.items()}
    return tuple(items[key] for key in sorted(items)) if all(isinstance(key, int) for key in items) else items


def _shapes_needed(
    module: torch.nn.Module, parameters: Parameters, missing: Sequence[str], ref: str, given: Sequence[str]
) -> ShapesNeeded:
    wanted = missing or parameters.names[:1] or [f"{parameters.args or parameters.kwargs or 'input'}"]
    alone = len(wanted) == 1 and not given
    first = wanted[0] if alone else next((name for name in wanted if name in _DATA_NAMES), None)
    guess = _guess(module) if first else None
    asked = [typed(name, (guess if name == first else None) or "DIM,DIM,...") for name in wanted]
    shown = " ".join([*given, *asked])
    taken = ", ".join(f"`{p.name}`" + ("" if p.required else " (has a default)") for p in parameters.named)
    rest = (
        ""
        if guess and len(wanted) == 1
        else "   (DIM: a size, or the name of a dynamic axis such as batch; integers: add :int64)"
    )
    which = ", ".join(f"`{name}`" for name in wanted)
    return ShapesNeeded(
        f"`{ref}` does not tell the shape of {which}",
        why=f"forward takes {taken}" if taken else "forward names no parameter",
        fix=shown + rest,
    )


def _retyped(option: InputOption, name: str) -> list[str]:
    """An option that was given, as it is typed: each of its shapes where it has several."""
    if not option.shapes:
        return [typed(name, option.show())]
    each = [replace(option, dims=shape, shapes=()) for shape in option.shapes]
    return [typed(name, one.show()) for one in each]


def _guess(module: torch.nn.Module) -> str | None:
    """A shape that the first layer with parameters would take: a suggestion to type, nothing that is used."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Embedding):
            return "1,16:int64"
        if isinstance(layer, torch.nn.Conv2d):
            return f"1,{layer.in_channels},224,224"
        if isinstance(layer, torch.nn.Conv1d):
            return f"1,{layer.in_channels},1024"
        if isinstance(layer, torch.nn.Linear):
            return f"1,{layer.in_features}"
        if isinstance(layer, (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)):
            return f"1,16,{layer.input_size}" if layer.batch_first else f"16,1,{layer.input_size}"
    return None


# ------------------------------------------------------------------ examples


def example_sizes(axes: Mapping[str, Axis], round_: int = 0, floor: int = 2) -> dict[str, int]:
    """A size for each dynamic axis, all different and none 1, where their ranges allow it.

    torch.export takes an axis of size 0 or 1 for a constant, and axes of equal sizes are hard to tell apart.

    Args:
        round_: Another number gives other sizes.
        floor: The least size of axes whose range is open.
    """
    sizes = _together(axes, round_)
    for name, axis in axes.items():
        if axis.choices or axis.tie is not None:
            continue
        options = _sizes(axis, floor)
        if round_ == 0 and axis.default is not None and axis.default // axis.step > 1:
            options = [axis.default, *options]
        free = [size for size in options if size not in sizes.values()] or options
        sizes[name] = free[min(round_, len(free) - 1)]
    return with_ties(sizes, axes)


def _together(axes: Mapping[str, Axis], round_: int) -> dict[str, int]:
    """The sizes of one enumerated shape: of those without 1 the first, of another round the next."""
    choices = {name: axis.choices for name, axis in axes.items() if axis.choices}
    if not choices:
        return {}
    turns = list(range(len(next(iter(choices.values())))))
    turns.sort(key=lambda turn: sum(sizes[turn] < 2 for sizes in choices.values()))
    turn = turns[min(round_, len(turns) - 1)]
    return {name: sizes[turn] for name, sizes in choices.items()}


def _sizes(axis: Axis, floor: int) -> list[int]:
    """Sizes that an axis can take: small ones above one step first, that one where there is nothing else."""
    open_ended = axis.high is None and axis.default is None
    start = max(axis.low, floor * axis.step if open_ended else axis.low)
    start = -(-start // axis.step) * axis.step
    stop = axis.high if axis.high is not None else start + 16 * axis.step
    found = list(range(start, stop + 1, axis.step))[:64]
    return [size for size in found if size // axis.step > 1] or found or [axis.low]


def examples(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int, index: int = 0
) -> tuple[torch.Tensor, ...]:
    """Seeded tensors of a signature's shapes and dtypes; floating-point numbers from a normal distribution.

    Raises:
        UnsupportedType: An input of strings or complex numbers.
    """
    feeds = draw(specs, sizes, seed, index, kind="normal").feeds
    return tuple(to_torch(feeds[spec.name]) for spec in specs)
