"""Running a source once or twice, to learn its outputs: names, dtypes, and which of their axes are dynamic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from mlconv.convert.job import Options
from mlconv.convert.torch_import.devices import baked_in, first_words, is_of_device
from mlconv.convert.torch_import.failures import user_raised
from mlconv.convert.torch_import.inputs import example_sizes, examples
from mlconv.convert.torch_import.source import Source
from mlconv.convert.torch_import.tables import with_table_ranges
from mlconv.errors import KeepsState, MlconvError, UnsupportedType, listed
from mlconv.runners.torch_eager import Flat, TorchRunner, as_tensor, choose, dtype_name, is_output
from mlconv.tensors import Axis, Dim, TensorSpec, with_ties

_PROBES = (40, 520)
"""Sizes clearly above those of the examples; code branches at small limits (16, 32), and at lengths like 512."""
_PROBE_NUMBERS = 1 << 20
"""Inputs of more numbers are not run at the larger of them: images have limits of no such kind."""
_SHARE = 1e-3
"""Share of the largest output by which two forms of a module may differ: rounding stays far below, another branch above."""
_LADDER = (2, 8, 32, 64, 128, 224, 256)
"""Sizes for axes of open range: networks with several strides do not run on the smallest."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A source that has run.

    Attributes:
        flat: The module as exporters take it: tensors in, the chosen outputs out.
        sizes: Of each dynamic axis, at which ``inputs`` were made; different from each other and above 1 where possible.
        inputs: Example tensors at those sizes, in the signature's order.
        others: Example tensors at other sizes, where there are dynamic axes.
    """

    flat: Flat
    runner: TorchRunner
    sizes: dict[str, int]
    inputs: tuple[torch.Tensor, ...]
    others: tuple[torch.Tensor, ...] | None


def reference(source: Source, options: Options) -> Reference:
    """Run a source on examples.

    Raises:
        UserCodeRaised, BadInputOption: `forward` raises on them.
        UnknownOutput: ``--outputs`` names none of its outputs.
        UnsupportedType: An output is no tensor.
        ConverterFailed: The module keeps a state between runs.
    """
    everything = Flat(source.module, source.pack)
    source.inputs, told = with_table_ranges(
        source.inputs,
        lambda tensors: everything.found(*tensors),
        list(_candidates(source.axes)),
        options.seed,
    )
    source.warnings += told
    before = {name: buffer.clone() for name, buffer in source.module.named_buffers()}
    sizes, inputs, found = _first_run(everything, source, options)
    _refuse_state(source.module, before)
    source.warnings += _unsteady(everything, inputs, found)
    names = {_apart(name, source.inputs): name for name in found}
    chosen = choose(tuple(names), options.outputs)
    if not options.outputs:
        _refuse_objects(names, found)
    flat = (
        everything
        if len(chosen) == len(names)
        else Flat(source.module, source.pack, [names[n] for n in chosen])
    )
    others, second = _second_run(flat, source, options, sizes)
    first = {name: as_tensor(name, found[names[name]]) for name in chosen}
    outputs = tuple(
        TensorSpec(
            name,
            _shape(first[name], second[names[name]] if second else None, sizes, others),
            dtype_name(first[name].dtype),
        )
        for name in chosen
    )
    runner = TorchRunner(flat, source.inputs, outputs)
    return Reference(flat, runner, sizes, inputs, others[1] if others else None)


def _refuse_state(module: torch.nn.Module, before: Mapping[str, torch.Tensor]) -> None:
    """A state that a module keeps between runs would be a constant in the graph."""
    written = [
        name for name, buffer in module.named_buffers() if name in before and not _same(buffer, before[name])
    ]
    if written:
        raise KeepsState(
            f"forward writes to {len(written)} buffers of the module: {listed(written)}",
            why="an ONNX graph keeps nothing between two runs",
            fix="let forward take the state as an input and return it as an output",
        )


def _unsteady(flat: Flat, inputs: tuple[torch.Tensor, ...], found: Mapping[str, object]) -> list[str]:
    with torch.inference_mode():
        again = flat.found(*(tensor.clone() for tensor in inputs))
    if all(_same(leaf, again.get(name)) for name, leaf in found.items()):
        return []
    return [
        "the source gives different outputs on the same inputs: it draws random numbers, which no comparison survives"
    ]


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.layout == b.layout == torch.strided:
        return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True))
    return True


def _refuse_objects(names: Mapping[str, str], found: Mapping[str, object]) -> None:
    """Outputs that are no tensors (a cache of a language model, a text) are never left out unasked."""
    objects = [name for name, raw in names.items() if not is_output(found[raw])]
    if not objects:
        return
    rest = [name for name in names if name not in objects]
    kinds = ", ".join(f"`{name}` is a {type(found[names[name]]).__name__}" for name in objects[:4])
    raise UnsupportedType(
        f"{kinds}, and outputs are tensors of numbers",
        fix=f"--outputs {','.join(rest)}" if rest else "return tensors from forward",
    )


def _apart(name: str, inputs: tuple[TensorSpec, ...]) -> str:
    """ONNX has one space of names: an output that bears an input's is told apart."""
    return f"{name}_out" if any(spec.name == name for spec in inputs) else name


def _first_run(
    flat: Flat, source: Source, options: Options
) -> tuple[dict[str, int], tuple[torch.Tensor, ...], dict[str, object]]:
    """At the smallest sizes that run; the first failure is the one that is told."""
    failures: list[Exception] = []
    for sizes, inputs in _tries(source, options.seed):
        try:
            with torch.inference_mode():
                return sizes, inputs, flat.found(*(tensor.clone() for tensor in inputs))
        except MlconvError:
            raise
        except Exception as error:  # the user's forward may raise anything
            failures.append(error)
    if is_of_device(failures[0]) and (source.program is not None or source.scripted):
        raise baked_in(source.ref, first_words(failures[0])) from failures[0]
    raise user_raised(failures[0], source.inputs, flat) from failures[0]


def _tries(source: Source, seed: int) -> Iterator[tuple[dict[str, int], tuple[torch.Tensor, ...]]]:
    """Sizes with inputs of them: the user's example, where exporters can tell its axes apart; else it comes last."""
    if source.example is None:
        for sizes in _candidates(source.axes):
            yield sizes, examples(source.inputs, sizes, seed)
        return
    own = {
        dim: size
        for spec, tensor in zip(source.inputs, source.example, strict=True)
        for dim, size in zip(spec.shape or (), tensor.shape, strict=True)
        if isinstance(dim, str)
    }
    near = _apart_near(own, source.axes)
    if near == own:
        yield own, source.example
    for sizes in (near, *_candidates(source.axes)) if own else ():
        yield sizes, examples(source.inputs, sizes, seed)
    yield own, source.example


def _apart_near(sizes: Mapping[str, int], axes: Mapping[str, Axis]) -> dict[str, int]:
    """The same sizes where they are above 1 and differ; the next ones where they are not and the axis has such."""
    found: dict[str, int] = {}
    for name, size in sizes.items():
        axis = axes[name]
        wish = size
        while wish == 1 or wish in found.values():
            wish += axis.step
        found[name] = wish if axis.high is None or wish <= axis.high else size
    return found


def _candidates(axes: Mapping[str, Axis]) -> Iterator[dict[str, int]]:
    """Each rung with the first axis, which mostly counts samples, small, then with all at that size."""
    free = [name for name, axis in axes.items() if axis.is_open]
    if not free:
        yield example_sizes(axes)
        return
    small = example_sizes(axes)
    yield small
    for floor in _LADDER[1:]:
        rung = example_sizes(axes, floor=floor)
        yield with_ties({**rung, free[0]: small[free[0]]}, axes)
        yield rung


def _second_run(
    flat: Flat, source: Source, options: Options, sizes: Mapping[str, int]
) -> tuple[tuple[dict[str, int], tuple[torch.Tensor, ...]] | None, dict[str, torch.Tensor] | None]:
    """At other sizes of every axis at once; None where there is no dynamic axis or the source does not take them."""
    if not source.axes:
        return None, None
    least = min(sizes.values())
    for round_, floor in itertools.product((1, 2, 3), (least, max(sizes.values()))):
        other = example_sizes(source.axes, round_, floor)
        if any(other[name] == size for name, size in sizes.items()):
            continue
        inputs = examples(source.inputs, other, options.seed, 1)
        try:
            with torch.inference_mode():
                return (other, inputs), flat.named(*(tensor.clone() for tensor in inputs))
        except Exception:  # the next size may do; none is told as a warning by the caller
            continue
    return None, None


def _shape(
    first: torch.Tensor, second: torch.Tensor | None, sizes: Mapping[str, int],
    others: tuple[dict[str, int], tuple[torch.Tensor, ...]] | None,
) -> tuple[Dim, ...] | None:  # fmt: skip
    """Sizes that stayed, names of axes that an output shares with the inputs, None for other dynamic ones."""
    if second is None or others is None:
        return tuple(first.shape)
    if first.dim() != second.dim():
        return None
    return tuple(_dim(a, b, sizes, others[0]) for a, b in zip(first.shape, second.shape, strict=True))


def _dim(first: int, second: int, sizes: Mapping[str, int], others: Mapping[str, int]) -> Dim:
    if first == second:
        return int(first)
    for name, size in sizes.items():
        if (size, others[name]) == (first, second):
            return name
    return None


# ------------------------------------------------------------------ other sizes, and what is the same


@dataclass(frozen=True, slots=True)
class Probe:
    """A run of the module with one axis at another size than the example's."""

    axis: str
    size: int
    inputs: tuple[torch.Tensor, ...]
    outputs: tuple[torch.Tensor, ...]


def probes(source: Source, known: Reference, seed: int) -> Iterator[Probe]:
    """The module at clearly larger sizes, one axis at a time; sizes at which it does not run are left out."""
    for axis in source.axes.values():
        for size in _larger(axis, known.sizes[axis.name]):
            probe = probe_at(source, known, axis.name, size, seed)
            if probe is not None:
                yield probe


def probe_at(source: Source, known: Reference, axis: str, size: int, seed: int) -> Probe | None:
    """The module with one axis at a size, the others at the example's; None where it does not run."""
    inputs = examples(source.inputs, with_ties({**known.sizes, axis: size}, source.axes), seed, 2)
    numbers = sum(tensor.numel() for tensor in inputs)
    if source.axes[axis].high is None and size >= _PROBES[-1] and numbers > _PROBE_NUMBERS:
        return None
    try:
        return Probe(axis, size, inputs, run(known.flat, inputs))
    except Exception:  # the user's forward may raise anything at a size that it does not take
        return None


def _larger(axis: Axis, example: int) -> list[int]:
    """The upper end of a range; of an open axis sizes above its example, and their neighbours of the other parity."""
    if axis.high is not None:
        sizes = [axis.high - axis.high % axis.step, axis.high - axis.high % axis.step - axis.step]
    else:
        sizes = [-(-size // axis.step) * axis.step for size in _PROBES]
        sizes = [near for size in sizes for near in (size, size + axis.step)]
    return [size for size in sizes if size > example]


def run(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """One run on copies, which a module may write to."""
    with torch.inference_mode():
        return tuple(module(*(tensor.clone() for tensor in inputs)))


def agrees(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], wanted: tuple[torch.Tensor, ...]
) -> bool:
    """Whether another form of a module runs on these inputs and gives these outputs."""
    try:
        found = run(module, inputs)
    except (RuntimeError, AssertionError):  # a size that became a number
        return False
    return len(found) == len(wanted) and all(close(a, b) for a, b in zip(wanted, found, strict=True))


def close(wanted: torch.Tensor, found: torch.Tensor) -> bool:
    """Whether two outputs are the same but for rounding."""
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return False
    if not wanted.numel():
        return True
    if not wanted.is_floating_point():
        return bool((wanted == found).all())
    wanted, found = wanted.double(), found.double()
    finite = wanted.isfinite()
    if not torch.equal(finite, found.isfinite()):
        return False
    greatest = float(wanted[finite].abs().max()) if finite.any() else 0.0
    return bool(((wanted - found)[finite].abs() <= _SHARE * greatest + 1e-12).all())
