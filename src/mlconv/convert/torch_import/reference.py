"""Running a source once or twice, to learn its outputs: names, dtypes, and which of their axes are dynamic."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlconv.checks.sizes import elements
from mlconv.convert.job import Options
from mlconv.convert.torch_import.devices import baked_in, first_words, is_of_device
from mlconv.convert.torch_import.failures import user_raised
from mlconv.convert.torch_import.inputs import example_sizes, examples
from mlconv.convert.torch_import.source import Source
from mlconv.convert.torch_import.state import Held, same_draws, told
from mlconv.convert.torch_import.tables import with_table_ranges
from mlconv.errors import KeepsState, MlconvError, UnsupportedType, listed
from mlconv.formats.refs import for_shell
from mlconv.runners.torch_eager import Flat, TorchRunner, as_tensor, choose, dtype_name, is_output
from mlconv.tensors import Axis, Dim, TensorSpec, with_ties

_PROBES = (40, 520)
"""Sizes clearly above those of the examples; code branches at small limits (16, 32), and at lengths like 512."""
_PROBE_NUMBERS = 1 << 20
"""Inputs of more numbers are not run at the larger of them: images have limits of no such kind."""
_MOST_NUMBERS = 1 << 26
"""Nothing is run on inputs of more numbers."""
_EVERY, _SCATTER = 64, 32
"""A range of so many sizes is run at each of them; a longer one at its ends and at so many in all, drawn by the seed."""
_SCATTER_NUMBERS, _SCATTER_SECONDS = 1 << 22, 10.0
"""Of sizes within a range those whose inputs have more numbers are left out, and all that would begin after so long."""
_CONSTANT = 2
"""Exporters take 0 and 1 for broadcasts; the least size of a range is compared in the target's own runtime anyway."""
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
    held = Held(source.module)
    before = {name: buffer.clone() for name, buffer in source.module.named_buffers()}
    source.inputs, notes = with_table_ranges(
        source.inputs,
        lambda tensors: everything.found(*tensors),
        list(_candidates(source.axes)),
        options.seed,
        source.axes,
    )
    source.warnings += notes
    sizes, inputs, found = _first_run(everything, source, options)
    _refuse_state(source.module, before, held)
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
    _refuse_memory(everything, source, options, held, [sizes, *([others[0]] if others else [])])
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


def _refuse_state(module: torch.nn.Module, before: Mapping[str, torch.Tensor], held: Held) -> None:
    """A state that a module keeps between runs would be a constant in the graph."""
    buffers = [
        name for name, buffer in module.named_buffers() if name in before and not _same(buffer, before[name])
    ]
    written = buffers or told(held.moved("parameter"))
    if written:
        raise KeepsState(
            f"forward writes to {len(written)} {'buffers' if buffers else 'parameters'} of the module: {listed(written)}",
            why="an ONNX graph keeps nothing between two runs",
            fix="let forward take the state as an input and return it as an output",
        )


_RUNS = 6
"""Runs until a module counts as used, where each of them leaves something behind."""


def _refuse_memory(
    flat: Flat, source: Source, options: Options, held: Held, tried: Sequence[Mapping[str, int]]
) -> None:
    """Attributes that runs left behind, where they change an answer. Most are tables that are made once, and change none.

    The module answers as it is now, then as it was before its first run: on new values, at each of the sizes.
    """
    left = _left_in(held)
    if not left:
        return
    warm = Held(source.module)
    try:
        for number, sizes in enumerate(tried):
            inputs = examples(source.inputs, sizes, options.seed, 3 + number)
            warm.rewind()
            try:
                used = _answer(flat, inputs, options.seed)
                for _ in range(_RUNS if _left_in(warm) else 0):
                    used = _answer(flat, inputs, options.seed)
                held.rewind()
                fresh = _answer(flat, inputs, options.seed)
            except Exception:  # the user's forward may raise anything on values of ours
                continue
            if used.keys() != fresh.keys() or not all(_alike(fresh[name], used[name]) for name in fresh):
                raise KeepsState(
                    f"forward leaves something in {listed(left, 4)}, and answers otherwise because of it",
                    why="an ONNX graph keeps nothing between two runs, and would hold what the example left there",
                    fix="let forward take the state as an input and return it as an output, or set it in the constructor",
                )
    finally:
        warm.rewind()


def _left_in(held: Held) -> list[str]:
    return told([*held.rebound(), *held.moved("attribute")])


def _answer(flat: Flat, inputs: tuple[torch.Tensor, ...], seed: int) -> dict[str, object]:
    with torch.inference_mode(), same_draws(seed):
        found = flat.found(*(tensor.clone() for tensor in inputs))
        return {
            name: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for name, leaf in found.items()
        }


def _alike(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.layout == b.layout == torch.strided:
        return close(a, b)
    return not isinstance(a, (bool, int, float)) or a == b


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
        fix=f"--outputs {for_shell(','.join(rest))}" if rest else "return tensors from forward",
    )


def _apart(name: str, inputs: tuple[TensorSpec, ...]) -> str:
    """ONNX has one space of names: an output that bears an input's is told apart."""
    return f"{name}_out" if any(spec.name == name for spec in inputs) else name


def _first_run(
    flat: Flat, source: Source, options: Options
) -> tuple[dict[str, int], tuple[torch.Tensor, ...], dict[str, object]]:
    """At the smallest sizes that run; the first failure is the one that is told."""
    failures: list[Exception] = []
    for sizes, inputs in tries(source, options.seed):
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


def tries(source: Source, seed: int) -> Iterator[tuple[dict[str, int], tuple[torch.Tensor, ...]]]:
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


def probes(source: Source, known: Reference, seed: int, *, ranged: bool = False) -> Iterator[Probe]:
    """The module at clearly larger sizes and within its ranges, one axis at a time; sizes that it does not take are left out.

    Args:
        ranged: At the axes of a declared range alone.
    """
    axes = [axis for axis in source.axes.values() if axis.high is not None or not ranged]
    for axis in axes:
        yield from probes_at(source, known, axis.name, _larger(axis, known.sizes[axis.name]), seed)
    end = time.monotonic() + _SCATTER_SECONDS
    for axis in axes:
        example = known.sizes[axis.name]
        sizes = [size for size in _within(axis, seed) if size not in (example, *_larger(axis, example))]
        yield from probes_at(source, known, axis.name, sizes, seed, numbers=_SCATTER_NUMBERS, until=end)


def probes_at(
    source: Source, known: Reference, axis: str, sizes: Sequence[int], seed: int, *, numbers: int | None = None,
    until: float | None = None,
) -> Iterator[Probe]:  # fmt: skip
    """The module with one axis at each of these sizes; see ``probe_at``."""
    for size in sizes:
        if until is not None and time.monotonic() > until:
            return
        probe = probe_at(source, known, axis, size, seed, numbers)
        if probe is not None:
            yield probe


def _within(axis: Axis, seed: int) -> list[int]:
    """Sizes of a declared range, in an order of their own, so that those that time allows lie all over it."""
    if axis.high is None or axis.choices or axis.tie is not None:
        return []
    start = -(-max(axis.low, _CONSTANT) // axis.step) * axis.step
    every = range(start, axis.high + 1, axis.step)
    rng = np.random.default_rng(seed)
    if len(every) <= _EVERY:
        return [every[int(number)] for number in rng.permutation(len(every))]
    # one of each of equal parts: no branch that is wider than a part stays unseen
    edges = np.linspace(1, len(every) - 1, _SCATTER - 1).astype(int)
    inner = [every[int(rng.integers(low, high))] for low, high in itertools.pairwise(edges)]
    return [every[0], every[-1], *(inner[int(number)] for number in rng.permutation(len(inner)))]


def probe_at(
    source: Source, known: Reference, axis: str, size: int, seed: int, most: int | None = None
) -> Probe | None:
    """The module with one axis at a size, the others at the example's; None where it does not run.

    Args:
        most: Nothing is run where the inputs have more numbers than this.
    """
    sizes = with_ties({**known.sizes, axis: size}, source.axes)
    numbers = elements(source.inputs, sizes)
    if most is None and source.axes[axis].high is None and size >= _PROBES[-1]:
        most = _PROBE_NUMBERS
    if numbers > (most if most is not None else _MOST_NUMBERS):
        return None
    inputs = examples(source.inputs, sizes, seed, 2)
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
