"""A module of the caller's process as a source: a copy of it in eval mode, and its inputs as the example tells them.

The module itself is never touched. The copy shares its parameters and has buffers of its own, so that it costs no
memory to speak of and whatever `forward` or an exporter writes is written to the copy.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from mlconv.convert import torch_to_onnx
from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.live import Live
from mlconv.convert.torch_import import inputs as torch_inputs
from mlconv.convert.torch_import.inputs import Parameters, parameters_of
from mlconv.convert.torch_import.reference import reference
from mlconv.convert.torch_import.source import Source
from mlconv.errors import (
    BadInputOption,
    BadUsage,
    ShapesNeeded,
    SourceDoesNotRun,
    UnknownInput,
    UnsupportedType,
    listed,
)
from mlconv.formats import ModelFile
from mlconv.runners.base import Feeds, Runner
from mlconv.runners.torch_eager import Pack, dtype_name, to_numpy
from mlconv.tensors import TensorSpec, axes_of, with_input_options

_OURS = re.compile(r"(torch|onnxscript|onnx_ir)(\.|$)")
_HALF = (torch.float16, torch.bfloat16)
_CONSTANTS = (bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, type(None))


def take(module: torch.nn.Module, example: object, folder: Path) -> Live:  # noqa: ARG001  as every room is asked
    """A module as a source.

    Args:
        example: A tensor or array, a tuple of what `forward` takes by position, or a mapping by its parameters' names.

    Raises:
        BadUsage: It holds no values: on the meta device, or lazy and never run.
    """
    inner = _unwrapped(module)
    _assert_values(inner)
    name = _name(inner)
    ref = f"<{name}>"
    notes: list[str] = []
    with warnings.catch_warnings(action="ignore"), torch.inference_mode(False):  # torch's own about copies
        copied, widened = _copied(inner, notes)
    room = _Room(ref, copied, example, tuple(notes), widened)
    return Live(ModelFile(ref, None, "torch-module"), name, _identity(inner), _digest(inner), room)


def save(program: torch.export.ExportedProgram, example: object, folder: Path) -> Live:
    """An exported program as a source: its own file says all of it."""
    if example is not None:
        raise BadUsage(
            "an ExportedProgram knows its inputs, and takes no example",
            fix="leave example out; data takes samples to compare on",
        )
    path = folder / "program.pt2"
    torch.export.save(program, path)
    shapes = [(key, tuple(tensor.shape)) for key, tensor in program.state_dict.items()]
    identity = hashlib.sha256(repr(("torch-export", shapes)).encode()).hexdigest()
    return Live(ModelFile("<ExportedProgram>", path, "torch-export"), "program", identity)


@dataclass(frozen=True, slots=True)
class _Room:
    """See ``convert.live.Room``.

    Attributes:
        module: The copy.
        notes: What its making has to tell.
        widened: Whether it was in half precision.
    """

    ref: str
    module: torch.nn.Module
    example: object
    notes: tuple[str, ...]
    widened: bool

    def convert(self, job: Job) -> Converted:
        source, feeds = self._source(job.options)
        with warnings.catch_warnings(action="ignore"):  # torch's own, of which users can do nothing about any
            converted = torch_to_onnx.convert_source(
                source, job, job.options.opset or torch_to_onnx.DEFAULT_OPSET
            )
        converted.example = dict(feeds)
        return converted

    def runner(self, options: Options) -> tuple[Runner, Feeds]:
        source, feeds = self._source(options)
        with warnings.catch_warnings(action="ignore"):
            return reference(source, options).runner, feeds

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        fused = torch.backends.mha.get_fastpath_enabled()
        loggers = [
            logging.getLogger(name)
            for name in ("torch", *logging.root.manager.loggerDict)
            if _OURS.match(name)
        ]
        levels = [logger.level for logger in loggers]
        for logger in loggers:  # their handlers hold the real stderr
            logger.setLevel(logging.ERROR)
        try:
            with (
                torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"),
                torch.autocast("cpu", enabled=False),
            ):  # fmt: skip
                # the fused attention of inference has no ONNX form, and the reference shall compute what is exported
                torch.backends.mha.set_fastpath_enabled(False)
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    def _source(self, options: Options) -> tuple[Source, Feeds]:
        """The source, and the example by input name."""
        notes = list(self.notes)
        tensors: tuple[torch.Tensor, ...] = ()
        if self.example is None:
            try:
                inputs, pack = torch_inputs.signature(self.module, options.input, self.ref)
            except ShapesNeeded as error:
                raise ShapesNeeded(error.what, why=error.why, fix=_example_hint(self.module)) from error
        else:
            bound = _bind(self.module, self.example, self.ref)
            notes += bound.notes
            own = tuple(map(_widened, bound.tensors)) if self.widened else bound.tensors
            specs = tuple(
                TensorSpec(name, tuple(tensor.shape), dtype_name(tensor.dtype))
                for name, tensor in zip(bound.names, own, strict=True)
            )
            inputs, pack = with_input_options(specs, options.input), bound.pack
            tensors = tuple(
                tensor.to(getattr(torch, spec.dtype)) for spec, tensor in zip(inputs, own, strict=True)
            )
            _assert_one_size_an_axis(inputs, tensors)
        feeds = {spec.name: to_numpy(tensor) for spec, tensor in zip(inputs, tensors, strict=False)}
        source = Source(
            self.module,
            inputs,
            pack,
            axes_of(inputs, options.input),
            scripted=isinstance(self.module, torch.jit.ScriptModule),
            weights="live",
            warnings=notes,
            example=tensors or None,
        )
        return source, feeds


# ------------------------------------------------------------------ the module


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """What `torch.compile` and data parallelism wrap, which computes the same."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = module.module
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def _name(module: torch.nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    return type(module).__name__


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _assert_values(module: torch.nn.Module) -> None:
    for name, tensor in _tensors(module):
        if torch.nn.parameter.is_lazy(tensor):
            raise BadUsage(
                f"`{name}` of the module has no shape yet", why="a lazy layer takes it from its first inputs",
                fix="run the module once on inputs of its shape",
            )  # fmt: skip
        if tensor.is_meta:
            raise BadUsage(
                f"`{name}` of the module is on the meta device and has no values",
                fix="load the weights first: net.to_empty(device='cpu'); net.load_state_dict(...)",
            )


def _copied(module: torch.nn.Module, notes: list[str]) -> tuple[torch.nn.Module, bool]:
    """The module once more, in eval mode, on the CPU, in float32 where it was narrower; and whether it was.

    What needs no change is shared.

    Raises:
        SourceDoesNotRun: It cannot be copied.
    """
    trains = _trains(module)
    scripted = isinstance(module, torch.jit.ScriptModule)
    memo: dict[int, Any] = {}
    narrow: set[str] = set()
    for holder in module.modules():
        written = {id(buffer) for buffer in holder.buffers(recurse=False)}
        for value in (*holder._parameters.values(), *holder._buffers.values(), *vars(holder).values()):  # noqa: SLF001
            if isinstance(value, torch.Tensor) and id(value) not in memo:
                narrow |= {dtype_name(value.dtype)} if value.dtype in _HALF else set()
                memo[id(value)] = _moved(value, own=id(value) in written)
    try:
        copied = _deep_copy(module, {} if scripted else memo)
    except Exception as error:  # any attribute may refuse to be copied
        raise SourceDoesNotRun(
            f"the module `{_name(module)}` cannot be copied",
            why=f"{type(error).__name__}: {str(error)[:300]}",
            fix="take the attribute that cannot be copied out of it, or convert its state dict: --module FILE.py:NAME",
        ) from error
    if scripted:  # it is copied whole, its tensors with it
        copied = copied.to("cpu").float() if narrow else copied.to("cpu")
    if narrow:
        notes.append(f"the weights are {' and '.join(sorted(narrow))} and were converted to float32")
    if trains:
        notes.append(f"the module is in training mode, and was converted as it is in eval mode: {trains}")
    return copied.eval(), bool(narrow)


def _deep_copy(module: torch.nn.Module, memo: dict[int, Any]) -> torch.nn.Module:
    """A copy; attributes that refuse to be copied, such as locks and open files, are shared."""
    before = dict(memo)
    try:
        return copy.deepcopy(module, dict(memo))
    except Exception:  # whatever an attribute's own code raises
        for holder in module.modules():
            for name, value in vars(holder).items():
                if name not in ("_modules", "_parameters", "_buffers") and not _copies(value, before):
                    memo[id(value)] = value
    return copy.deepcopy(module, memo)


def _copies(value: object, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:  # as above
        return False
    return True


def _moved(tensor: torch.Tensor, *, own: bool) -> torch.Tensor:
    """A tensor on the CPU in float32 at least; itself where it is that already, unless it must be a copy."""
    dtype = torch.float32 if tensor.dtype in _HALF else tensor.dtype
    fits = (
        tensor.device.type == "cpu" and tensor.dtype == dtype and tensor.is_leaf and not tensor.is_inference()
    )
    if fits and not own:
        return tensor
    with torch.no_grad():
        moved = tensor.detach().to("cpu", dtype, copy=True)
    return (
        torch.nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else moved
    )


_DROPOUTS = (torch.nn.modules.dropout._DropoutNd, torch.nn.RReLU)  # noqa: SLF001  the base of all dropouts
_NORMS = (torch.nn.modules.batchnorm._NormBase,)  # noqa: SLF001  of batch and instance norms


def _trains(module: torch.nn.Module) -> str | None:
    """What of a module computes otherwise in the mode that it is in; None where nothing does."""
    found = dict.fromkeys(
        type(part).__name__ for part in module.modules() if part.training and _has_two_modes(part)
    )
    return listed(list(found), 4) if found else None


def _has_two_modes(part: torch.nn.Module) -> bool:
    if isinstance(part, _DROPOUTS):
        return getattr(part, "p", 1) != 0
    if isinstance(part, _NORMS):
        return bool(part.track_running_stats)
    if isinstance(part, (torch.nn.RNNBase, torch.nn.MultiheadAttention)):
        return bool(part.dropout)
    code = getattr(getattr(type(part), "forward", None), "__code__", None)  # TorchScript has none
    return code is not None and "training" in code.co_names and not type(part).__module__.startswith("torch.")


def _identity(module: torch.nn.Module) -> str:
    """The class with the names and shapes of its parameters: two nets of ``nn.Sequential`` are two sources."""
    kind = type(module)
    shapes = [(name, tuple(tensor.shape)) for name, tensor in _tensors(module)]
    told = ("torch-module", kind.__module__, kind.__qualname__, shapes)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def _digest(module: torch.nn.Module) -> str:
    """SHA-256 of the parameters and buffers: of each its name, dtype, shape and bytes, in the order of their names."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(_tensors(module), key=lambda item: item[0]):
        hashed.update(f"{name}:{dtype_name(tensor.dtype)}:{list(tensor.shape)}\n".encode())
        if tensor.layout == torch.strided and not tensor.is_quantized:
            plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
            hashed.update(plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return hashed.hexdigest()


# ------------------------------------------------------------------ the example


@dataclass(frozen=True, slots=True)
class _Bound:
    """An example as a signature: the tensors in the order of `forward`, their names, and how they go back in."""

    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    pack: Pack
    notes: tuple[str, ...]


def _bind(module: torch.nn.Module, example: object, ref: str) -> _Bound:
    """Names are those of `--input`: ``x``, ``batch.image``, ``states.0``. What is no tensor becomes a constant.

    Raises:
        UnknownInput: A name that `forward` does not take, or too many values.
        ShapesNeeded: A parameter without a default is not in it, or it holds no tensor.
        UnsupportedType: A value is neither a tensor nor a plain constant nor a container of such.
    """
    parameters = parameters_of(module)
    args, kwargs = _call(example)
    _assert_taken(args, kwargs, parameters, ref)
    order = {name: number for number, name in enumerate(parameters.names)}
    kwargs = dict(sorted(kwargs.items(), key=lambda item: order.get(item[0], len(order))))
    leaves, tree = pytree.tree_flatten_with_path((args, kwargs))
    named = [(_leaf_name(path, parameters), leaf) for path, leaf in leaves]
    tensors = [
        (name, _tensor(leaf))
        for name, leaf in named
        if isinstance(leaf, (torch.Tensor, np.ndarray, np.generic))
    ]
    constants = [
        (name, leaf) for name, leaf in named if not isinstance(leaf, (torch.Tensor, np.ndarray, np.generic))
    ]
    strange = [
        f"`{name}` is a {type(leaf).__name__}" for name, leaf in constants if not isinstance(leaf, _CONSTANTS)
    ]
    if strange:
        raise UnsupportedType(
            f"the example holds what is no tensor: {', '.join(strange[:4])}",
            fix="give tensors, numbers, or tuples, lists and dictionaries of them",
        )
    if not tensors:
        raise ShapesNeeded(f"the example of `{ref}` holds no tensor", fix=_example_hint(module))
    is_tensor = [isinstance(leaf, (torch.Tensor, np.ndarray, np.generic)) for _, leaf in named]

    def pack(given: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rest = iter(given)
        flat = [next(rest) if here else leaf for here, (_, leaf) in zip(is_tensor, named, strict=True)]
        positional, by_name = pytree.tree_unflatten(flat, tree)
        return positional, by_name

    told = [
        f"`{name}` is {leaf!r} in the artifact, and no input" for name, leaf in constants if leaf is not None
    ]
    return _Bound(
        tuple(name for name, _ in tensors), tuple(tensor for _, tensor in tensors), pack, tuple(told)
    )


def _call(example: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments."""
    if isinstance(example, Mapping):
        return (), {str(name): value for name, value in example.items()}
    if isinstance(example, (tuple, list)) and not hasattr(example, "_fields"):
        return tuple(example), {}
    return (example,), {}


def _assert_taken(args: tuple[Any, ...], kwargs: Mapping[str, Any], parameters: Parameters, ref: str) -> None:
    positional = [p.name for p in parameters.named if not p.keyword_only]
    if len(args) > len(positional) and parameters.args is None:
        raise BadUsage(
            f"the example has {len(args)} values, and forward of `{ref}` takes {len(positional)}: {listed(positional) or 'none'}",
            fix=f"example=({', '.join(positional)},); a list or dictionary that is one argument stands in a tuple: example=([a, b],)",
        )
    if parameters.kwargs is None:
        for name in kwargs:
            if name not in parameters.names:
                error = UnknownInput.named(name, parameters.names)
                raise UnknownInput(
                    error.what, fix=f"example={{{', '.join(f'{n!r}: ...' for n in parameters.names)}}}"
                )
    given = {*positional[: len(args)], *kwargs}
    missing = [p.name for p in parameters.named if p.required and p.name not in given]
    if missing:
        raise ShapesNeeded(
            f"the example of `{ref}` leaves out {listed(missing)}", why=f"forward takes {listed(parameters.names)}",
            fix=f"example={{{', '.join(f'{n!r}: ...' for n in (*given, *missing))}}}",
        )  # fmt: skip


def _leaf_name(path: Sequence[Any], parameters: Parameters) -> str:
    """``(args, kwargs)`` is a tree: the first key says which, the second which parameter."""
    keys = [getattr(key, "idx", getattr(key, "key", getattr(key, "name", key))) for key in path]
    first = keys[1]
    if isinstance(first, int):
        positional = [p.name for p in parameters.named if not p.keyword_only]
        first = (
            positional[first] if first < len(positional) else f"{parameters.args}_{first - len(positional)}"
        )
    return ".".join(map(str, (first, *keys[2:])))


def _tensor(leaf: object) -> torch.Tensor:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().to("cpu", copy=True)
    return torch.tensor(np.asarray(leaf))


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


def _assert_one_size_an_axis(inputs: Sequence[TensorSpec], tensors: Sequence[torch.Tensor]) -> None:
    """Refuse an axis that is of two sizes in the example.

    Raises:
        BadInputOption: Its name stands for axes that differ.
    """
    sizes: dict[str, int] = {}
    for spec, tensor in zip(inputs, tensors, strict=True):
        for dim, size in zip(spec.shape or (), tensor.shape, strict=True):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                raise BadInputOption(
                    f"the axis `{dim}` is {sizes[dim]} and {size} in the example",
                    fix="give axes that may differ names of their own",
                )


def _example_hint(module: torch.nn.Module) -> str:
    names = [p.name for p in parameters_of(module).named if p.required] or ["x"]
    return f"example=({', '.join(names)},) with tensors as forward takes them, or inputs=['{names[0]}=1,3,224,224']"
