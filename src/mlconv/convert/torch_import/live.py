"""A module of the caller's process as a source: a copy of it in eval mode, and its inputs as the example tells them.

The copy has parameters and buffers of its own, so that whatever `forward`, `eval` or an exporter writes is written to
the copy; where memory is short it shares the parameters. The module itself answers once, as its copy must: what a copy
cannot carry over (closures over the module, state, methods of its own for copying) shows there. It is put back as it was.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import hashlib
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from mlconv.convert.torch_import.ref import is_compiled
from mlconv.convert.torch_import.reference import close, reference, tries
from mlconv.convert.torch_import.source import Source
from mlconv.convert.torch_import.state import Held, same_draws, told
from mlconv.errors import (
    BadInputOption,
    BadUsage,
    KeepsState,
    ShapesNeeded,
    SourceDoesNotRun,
    UnknownInput,
    UnsupportedType,
    listed,
)
from mlconv.formats import ModelFile
from mlconv.runners.base import Feeds, Runner
from mlconv.runners.torch_eager import Flat, Pack, dtype_name, leaves, to_numpy
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
    roomy = _has_memory_for(2 * sum(_size(tensor) for _, tensor in _tensors(inner)))
    with warnings.catch_warnings(action="ignore"), torch.inference_mode(False):  # torch's own about copies
        copied, widened = _copied(inner, notes, shared=not roomy)
    cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
    if cast is not None:
        notes.append(
            f"autocast to {dtype_name(cast)} is on: it is no part of the artifact, which computes as without it"
        )
    room = _Room(ref, copied, example, tuple(notes), widened, inner, cast, roomy, _trains(inner) is not None)
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


@dataclass(slots=True)
class _Room:
    """See ``convert.live.Room``.

    Attributes:
        module: The copy.
        notes: What its making has to tell.
        widened: Whether it was in half precision.
        own: The caller's module.
        cast: What the caller's autocast casts to; None where it is off.
        roomy: Whether there is memory for parameters of the copy's own, and for those to put back.
        told: Whether the notes tell that it is in training mode.
        asked: Whether the caller's module has answered.
    """

    ref: str
    module: torch.nn.Module
    example: object
    notes: tuple[str, ...]
    widened: bool
    own: torch.nn.Module
    cast: torch.dtype | None
    roomy: bool
    told: bool
    asked: bool = field(default=False)

    def convert(self, job: Job) -> Converted:
        source, feeds = self._source(job.options)
        with warnings.catch_warnings(action="ignore"):  # torch's own, of which users can do nothing about any
            converted = torch_to_onnx.convert_source(
                source, job, job.options.opset or torch_to_onnx.DEFAULT_OPSET
            )
            converted.warnings += self._asked_without_example(source, job.options)
        converted.example = dict(feeds)
        return converted

    def runner(self, options: Options) -> tuple[Runner, Feeds]:
        source, feeds = self._source(options)
        with warnings.catch_warnings(action="ignore"):
            runner = reference(source, options).runner
            self._asked_without_example(source, options)
            return runner, feeds

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """The framework's state and the module; its tensors are looked at too.

        Raises:
            KeepsState: They were written to, by a closure or a shared attribute that reaches the module.
        """
        held = Held(self.own, whole=self.roomy)
        try:
            with self._switches():
                yield
        except BaseException:
            held.rewind()
            raise
        moved = told(held.moved("parameter", "buffer", "attribute"))
        lost = held.rewind()
        if moved:
            raise KeepsState(
                f"converting a copy of the module wrote to the module itself: {listed(moved, 4)}",
                why="there is too little memory to put them back: load its weights again" if lost
                else "a closure, a hook or a shared attribute of the copy reaches it; it is as it was",
                fix="let forward use nothing but `self`: a patched forward or a hook that holds the module is not copied with it",
            )  # fmt: skip

    @contextlib.contextmanager
    def _switches(self) -> Iterator[None]:
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
                tensor.as_subclass(torch.Tensor).to(getattr(torch, spec.dtype))
                for spec, tensor in zip(inputs, own, strict=True)
            )
            _assert_one_size_an_axis(inputs, tensors)
            given = bound.tensors if self.widened else _as(bound.tensors, tensors)
            notes += self._assert_answers_alike(pack, given, tensors, options.seed)
        self.module = _in_eval(self.module)
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

    def _asked_without_example(self, source: Source, options: Options) -> list[str]:
        """Both answers on drawn inputs, where there was no example to ask on."""
        if self.asked:
            return []
        flat = Flat(self.module, source.pack)
        for _, inputs in itertools.islice(tries(source, options.seed), 8):
            with (
                contextlib.suppress(Exception),
                torch.inference_mode(),
            ):  # the user's forward: at the next size
                flat.found(*(tensor.clone() for tensor in inputs))
                break
        else:
            return []
        given = tuple(t.to(self._narrow()) if t.is_floating_point() and self.widened else t for t in inputs)
        return self._assert_answers_alike(source.pack, given, inputs, options.seed)

    def _narrow(self) -> torch.dtype:
        return next(tensor.dtype for _, tensor in _tensors(self.own) if tensor.dtype in _HALF)

    def _assert_answers_alike(
        self, pack: Pack, given: tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...], seed: int
    ) -> list[str]:
        """The caller's module answers once, then its copy; both are as they were afterwards.

        Returns:
            What is to be told where the module itself does not run here.

        Raises:
            CopyDiffers: The copy is another network.
            KeepsState: The answer moved parameters of the caller's that cannot be put back.
        """
        if self.asked:
            return []
        self.asked = True
        held = Held(self.own, whole=self.roomy)
        modes = [(part, part.training) for part in self.own.modules()]
        place = next((tensor.device for _, tensor in _tensors(self.own)), torch.device("cpu"))
        failed: Exception | None = None
        wanted: dict[str, object] = {}
        standing: dict[str, object] | None = None
        with warnings.catch_warnings(action="ignore"), torch.inference_mode(False):
            try:
                args, kwargs = pack([tensor.detach().clone().to(place) for tensor in given])
                with _autocast(self.cast, place), torch.no_grad(), _uncompiled():
                    if not self.told and any(mode for _, mode in modes):
                        with (
                            contextlib.suppress(Exception),
                            same_draws(seed),
                        ):  # batch norm of one sample raises
                            standing = _answers(self.own, *copy.deepcopy((args, kwargs)))
                        held.rewind()
                    with same_draws(seed):
                        wanted = _answers(_in_eval(self.own), args, kwargs)
            except Exception as error:  # the user's forward may raise anything
                failed = error
            finally:
                for part, mode in modes:
                    part.training = mode
                lost = held.rewind()
        if lost:
            raise KeepsState(
                f"one run of the module in eval mode wrote to its parameters: {listed(told(lost), 4)}",
                why="there is too little memory to keep a copy of them; load its weights again",
                fix="bring the module into eval mode first, or convert where more memory is free",
            )
        self.module = _in_eval(self.module)
        of_copy = Held(self.module, whole=self.roomy)
        try:
            with warnings.catch_warnings(action="ignore"), torch.inference_mode(), same_draws(seed):
                args, kwargs = pack([tensor.clone() for tensor in inputs])
                found = _answers(self.module, args, kwargs)
        except Exception:  # told where the copy is run as the source
            return []
        finally:
            of_copy.rewind()
        if failed is not None and (self.widened or self.cast or place.type != "cpu"):
            return [
                f"the module itself did not answer ({_first_words(failed)}): the reference is its copy in float32"
            ]
        if failed is not None:
            raise _copy_differs(self.ref, f"it raises {_first_words(failed)}, and its copy does not")
        loose = self.widened or self.cast is not None or place.type != "cpu"
        differing = [name for name in wanted if not _agree(wanted[name], found.get(name), loose=loose)]
        if wanted.keys() != found.keys() or differing:
            names = listed(differing or sorted(wanted.keys() ^ found.keys()), 4)
            raise _copy_differs(self.ref, f"on the same inputs {names} differ")
        if standing is None or all(_agree(standing.get(name), wanted[name], loose=loose) for name in wanted):
            return []
        return [
            "the module answers otherwise than after eval(), which it was not brought into as a whole: converted is what it computes after eval()"
        ]


def _copy_differs(ref: str, how: str) -> SourceDoesNotRun:
    return SourceDoesNotRun(
        f"the copy of `{ref}` that is converted computes something else than the module itself: {how}",
        why="a closure, a hook or a patched forward that holds the module, an eval, train or __deepcopy__ of its own, "
        "or a branch on dtype, class or autocast",
        fix="call net.eval() first, and let forward use nothing but `self` and its inputs; give plain tensors in float32",
    )


def _as(given: Sequence[torch.Tensor], cast: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The tensors that were given, of whatever class, in the dtypes that the options ask for."""
    return tuple(own.to(like.dtype) for own, like in zip(given, cast, strict=True))


def _in_eval(module: torch.nn.Module) -> torch.nn.Module:
    """In eval mode; one that is there already is not asked again, as its `eval` may do more than once what it does."""
    return module.eval() if any(part.training for part in module.modules()) else module


def _answers(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, object]:
    return {
        name: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
        for name, leaf in leaves(module(*args, **kwargs))
    }


def _autocast(dtype: torch.dtype | None, place: torch.device) -> contextlib.AbstractContextManager[Any]:
    if dtype is None or place.type != "cpu":
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=dtype)


def _uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Parts that `torch.compile` wraps run as they are written."""
    stance = getattr(torch.compiler, "set_stance", None)
    return contextlib.nullcontext() if stance is None else stance("force_eager")


_LOOSE = 0.1
"""Share by which answers may differ that were computed in half precision, or on a GPU: another branch differs by more."""


def _agree(wanted: object, found: object, *, loose: bool) -> bool:
    if not isinstance(wanted, torch.Tensor) or not isinstance(found, torch.Tensor):
        return not isinstance(wanted, (bool, int, float)) or loose or wanted == found
    if not wanted.layout == found.layout == torch.strided:
        return True
    a, b = (t.detach().as_subclass(torch.Tensor).cpu() for t in (wanted, found))
    if not loose:
        return close(a, b)
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() and b.is_floating_point()):
        return True  # the greatest of two that are nearly equal is another one
    a, b = a.double(), b.double()
    finite = a.isfinite() & b.isfinite()
    return bool((a - b)[finite].norm() <= _LOOSE * a[finite].norm() + 1e-6)


def _first_words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"


def _size(tensor: torch.Tensor) -> int:
    return 0 if torch.nn.parameter.is_lazy(tensor) else tensor.numel() * max(tensor.element_size(), 4)


def _has_memory_for(size: int) -> bool:
    """Whether half of what is free suffices, as the export needs its own; where no system tells, up to 2 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration, ValueError):
        return size <= 2 << 30
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
        most = int((group / "memory.max").read_text())
        free = min(free, most - int((group / "memory.current").read_text()))
    return size <= free // 2


# ------------------------------------------------------------------ the module


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """What `torch.compile` and data parallelism wrap, which computes the same.

    Raises:
        BadUsage: The wrapper has hooks, which the module inside has not.
    """
    inner: Any
    while True:
        if is_compiled(module):
            inner, name = module._orig_mod, "_orig_mod"  # noqa: SLF001  it has no other name
            own = vars(module)  # its attributes are the inner module's, but for those in its own dictionary
        elif isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner, name, own = module.module, "module", vars(module)
        else:
            return module
        if own.get("_forward_hooks") or own.get("_forward_pre_hooks"):
            raise BadUsage(
                f"the {type(module).__name__} around `{_name(inner)}` has hooks, and what is inside it is converted",
                fix=f"register them on the module inside: net.{name}.register_forward_hook(...)",
            )
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


def _copied(module: torch.nn.Module, notes: list[str], *, shared: bool) -> tuple[torch.nn.Module, bool]:
    """The module once more, on the CPU, in float32 where it was narrower; and whether it was.

    Args:
        shared: Whether parameters that need no change are shared.

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
                memo[id(value)] = _moved(value, own=not shared or id(value) in written)
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
    return copied, bool(narrow)


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
    if isinstance(tensor, torch.nn.Parameter):
        moved = torch.nn.Parameter(moved, tensor.requires_grad)
    vars(moved).update(vars(tensor))  # what its owner hung on it
    return moved


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
