"""A REF to the module that it names: importing a file or package, and calling what stands in it.

Naming a REF is the consent to run it; nothing else in mlconv imports a user's code for PyTorch.
"""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mlconv.convert.torch_import.ref_import import import_place, raised
from mlconv.errors import BadUsage, MlconvError, RefNotFound, listed, nearest
from mlconv.formats.refs import Ref, for_shell, parse_ref, show_literal

_EMPTY = inspect.Parameter.empty
_OBJECTS = frozenset({"config", "cfg", "args", "opt", "hparams", "backbone", "encoder", "model"})
"""What arguments are called that take an object and no literal, where nothing else tells."""
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_WRAPPERS = (
    torch.nn.DataParallel,
    torch.nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


@dataclass(frozen=True, slots=True)
class Built:
    """What a REF gave.

    Attributes:
        module: In eval mode; on the CPU, or on the meta device where its parameters have no values yet.
        ref: The REF that was called.
        arguments: The value of each argument that it takes, given or by default; empty of an instance.
        takes_any: Whether it takes arguments of other names too (``**kwargs``).
    """

    module: torch.nn.Module
    ref: Ref
    arguments: dict[str, Any] = field(default_factory=dict)
    takes_any: bool = False

    def with_argument(self, name: str, value: object) -> Ref:
        """The REF with another value of one argument, which may be given by its position."""
        position = list(self.arguments).index(name) if name in self.arguments else len(self.ref.args)
        if position < len(self.ref.args):
            args = (*self.ref.args[:position], value, *self.ref.args[position + 1 :])
            return replace(self.ref, args=args)
        return self.ref.with_arguments(**{name: value})


def build(text: str, seed: int = 0) -> torch.nn.Module:
    """The module of ``build_ref``.

    Raises:
        MlconvError: As ``build_ref``; RefNotFound where its parameters have no values.
    """
    return assert_real(build_ref(text, seed).module, text)


def build_ref(text: str, seed: int = 0) -> Built:
    """The module that a REF names, or that the callable it names returns, in eval mode on the CPU.

    Random parameters are those of ``seed``. Wrappers of training (``DataParallel``, ``torch.compile``) are taken off.

    Raises:
        MissingFile: The file of the REF is not there.
        RefNotFound: There is no such module or name in it, or it is no ``nn.Module``.
        BadUsage: The arguments are not those that it takes.
        UserCodeRaised: Importing or calling it raised.
    """
    ref = parse_ref(text)
    _seed(seed)
    value = _attribute(import_place(ref, text), ref)
    if isinstance(value, torch.nn.Module):
        if ref.args or ref.kwargs:
            raise BadUsage(
                f"`{ref.place}:{ref.name}` is a module and takes no arguments", why="it is made already",
                fix=f"{ref.place}:{ref.name}, or name what makes it",
            )  # fmt: skip
        return Built(_on_cpu(unwrapped(value)), ref)
    made = _call(value, ref, text)
    if not isinstance(made, torch.nn.Module):
        raise _no_module(made, ref)
    return Built(_on_cpu(unwrapped(made)), ref, *_arguments(value, ref))


def assert_real(module: torch.nn.Module, text: str) -> torch.nn.Module:
    """The module, whose parameters must have values.

    Raises:
        RefNotFound: Some are on the meta device.
    """
    empty = [
        name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if _is_meta(tensor)
    ]
    if empty:
        raise RefNotFound(
            f"`{text}` gives a module on the meta device", why=f"{listed(empty, 3)} have a shape and no values",
            fix="--weights FILE with its state dict, or build it on the CPU",
        )  # fmt: skip
    return module


def is_compiled(module: object) -> bool:
    """Whether `torch.compile` made a module. By its class: a wrapper of one's own may call what it holds `_orig_mod` too."""
    dynamo = sys.modules.get(
        "torch._dynamo.eval_frame"
    )  # which importing takes a second, and is there where one was made
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module without what training and ``torch.compile`` put around it, or around its parts."""
    while True:
        if isinstance(module, _WRAPPERS):
            module = module.module
        elif is_compiled(module):
            module = module._orig_mod  # type: ignore[assignment]  # noqa: SLF001  it has no other name
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        return module
    for part in list(module.modules()):
        if isinstance(part, torch.jit.ScriptModule):
            continue
        if getattr(part, "_compiled_call_impl", None) is not None:
            part._compiled_call_impl = None  # noqa: SLF001  what module.compile() sets
        for name, child in part._modules.items():  # noqa: SLF001  named_children leaves out what stands twice
            if isinstance(child, _WRAPPERS) or is_compiled(child):
                part._modules[name] = unwrapped(child)  # type: ignore[arg-type]  # noqa: SLF001
    return module


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  what a user's constructor draws from


def _on_cpu(module: torch.nn.Module) -> torch.nn.Module:
    module = module.eval()
    tensors = [*module.parameters(), *module.buffers()]
    return module if any(map(_is_meta, tensors)) else module.to("cpu")


def _is_meta(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_meta


def _attribute(module: ModuleType, ref: Ref) -> object:
    value: object = module
    for number, part in enumerate(ref.name.split(".")):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise _no_name(value, part, number, ref) from error
        except Exception as error:  # packages load their parts as they are asked for
            raise raised(f"`{ref.place}:{ref.name}`", error) from error
    return value


def _no_name(owner: object, part: str, number: int, ref: Ref) -> RefNotFound:
    names = [name for name in dir(owner) if not name.startswith("_")]
    close = nearest(part, names)
    own = [name for name in names if _is_of(getattr(owner, name, None), owner)]
    parts = ref.name.split(".")
    meant = Ref(ref.module, ref.file, ".".join([*parts[:number], close[0], *parts[number + 1 :]]), ref.args, ref.kwargs,
                ref.called) if close else None  # fmt: skip
    return RefNotFound(
        f"`{ref.place}` has no `{ref.name}`",
        why=f"nearest: {listed(close)}" if close else f"it has {listed(own or names) or 'no public name'}",
        fix=for_shell(str(meant)) if meant else "name what builds the module",
    )


def _is_of(value: object, owner: object) -> bool:
    """Whether a name was made in that module: what it imports from elsewhere is not what a user looks for."""
    return callable(value) and getattr(value, "__module__", None) == getattr(owner, "__name__", "")


def _is_module_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, torch.nn.Module)


# ------------------------------------------------------------------ calling it


def _call(value: object, ref: Ref, text: str) -> object:
    if not callable(value):
        return value
    _assert_arguments(value, ref)
    folder = ref.file.resolve().parent if ref.file else Path.cwd()
    try:
        return value(*ref.args, **ref.kwargs)
    except MlconvError:
        raise
    except (Exception, SystemExit) as error:
        raise raised(f"`{text}`", error, folder, ref) from error


def _assert_arguments(value: object, ref: Ref) -> None:
    """Refuse a call that Python would, in words that say what to type.

    Raises:
        BadUsage: An argument is missing, too much, or of a name that it does not take.
    """
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]  # it is callable
    except (ValueError, TypeError):  # a C function tells nothing
        return
    why = _refusal(signature, ref)
    if why is None:
        return
    parameters = [p for p in signature.parameters.values() if p.kind not in _VARIADIC]
    objects = [
        p
        for p in parameters[len(ref.args) :]
        if p.default is _EMPTY and p.name not in ref.kwargs and _is_object(p)
    ]
    if objects:
        raise _needs_object(value, ref, objects[0].name, why)
    named = [p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY]
    shown = ", ".join(_shown(p) for p in signature.parameters.values()) or "no arguments"
    unknown = [name for name in ref.kwargs if name not in named]
    if unknown:
        close = nearest(unknown[0], named, 1)
        kwargs = {close[0] if close and name == unknown[0] else name: item for name, item in ref.kwargs.items()
                  if close or name != unknown[0]}  # fmt: skip
        meant = str(Ref(ref.module, ref.file, ref.name, ref.args, kwargs, called=True))
    else:
        positions = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        given = [show_literal(item) for item in ref.args[: len(positions)]]
        given += [f"{name}={show_literal(item)}" for name, item in ref.kwargs.items()]
        given += [
            f"{p.name}=VALUE"
            for p in parameters[len(ref.args) :]
            if p.default is _EMPTY and p.name not in ref.kwargs
        ]
        meant = f"{ref.place}:{ref.name}({', '.join(given)})"
    raise BadUsage(
        f"`{ref.place}:{ref.name}` does not take these arguments: {why}", why=f"it takes {shown}",
        fix=for_shell(meant) + ("   (VALUE: a number, a text in double quotes, a list...)" if "=VALUE" in meant else ""),
    )  # fmt: skip


def _needs_object(value: object, ref: Ref, name: str, why: str) -> BadUsage:
    """What to say of an argument that no REF can write down: a configuration, another module."""
    what = f"`{ref.place}:{ref.name}` takes `{name}`, an object, and a REF can give texts and numbers alone"
    if callable(getattr(value, "from_pretrained", None)):
        meant = Ref(ref.module, ref.file, f"{ref.name}.from_pretrained", ("FOLDER",), {}, called=True)
        return BadUsage(
            what, why=why, fix=f"{for_shell(str(meant))}   (FOLDER: what save_pretrained wrote, with its config.json)"
        )  # fmt: skip
    return BadUsage(
        what, why=why,
        fix=f"write a function that makes `{name}` and returns {ref.name}({name}), and name that: {ref.file or 'net.py'}:make",
    )  # fmt: skip


def _refusal(signature: inspect.Signature, ref: Ref) -> str | None:
    """Why Python would refuse the call; None where it would not."""
    try:
        signature.bind(*ref.args, **ref.kwargs)
    except TypeError as error:
        return str(error)
    return None


def _is_object(parameter: inspect.Parameter) -> bool:
    """Whether an argument is of a class, as far as its annotation or its name tells: a configuration, another module."""
    kind = parameter.annotation
    if kind is _EMPTY:
        return parameter.name in _OBJECTS
    return isinstance(kind, type) and kind.__module__ not in (
        "builtins",
        "typing",
        "collections.abc",
        "pathlib",
    )


def _shown(parameter: inspect.Parameter) -> str:
    if parameter.kind in _VARIADIC:
        return "`*" + ("*" if parameter.kind is inspect.Parameter.VAR_KEYWORD else "") + f"{parameter.name}`"
    return f"`{parameter.name}`" + (
        "" if parameter.default is _EMPTY else f" (default {parameter.default!r:.40})"
    )


def _arguments(value: object, ref: Ref) -> tuple[dict[str, Any], bool]:
    """The arguments of a call, defaults among them, and whether it takes more by name."""
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]  # it was called
        bound = signature.bind(*ref.args, **ref.kwargs)
    except (ValueError, TypeError):
        return dict(ref.kwargs), False
    bound.apply_defaults()
    plain = {
        p.name: bound.arguments.get(p.name) for p in signature.parameters.values() if p.kind not in _VARIADIC
    }
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    return {**plain, **{name: item for name, item in ref.kwargs.items() if name not in plain}}, takes_any


# ------------------------------------------------------------------ what is no module


def _no_module(value: object, ref: Ref) -> RefNotFound:
    """What to type where a REF gives something else: the module that it holds, where it holds one."""
    found = _held(value)
    kind = f"`{ref}` gives {_kind(value)}, and an nn.Module is needed"
    if found is not None:
        return RefNotFound(kind, why=f"the module is its {found}", fix=_factory(ref, found))
    if isinstance(value, ModuleType):
        classes = [name for name in dir(value) if _is_module_class(getattr(value, name, None))]
        names = classes or [name for name in dir(value) if _is_of(getattr(value, name, None), value)]
        return RefNotFound(kind, why=f"it has {listed(names) or 'no function of its own'}",
                           fix=f"name what makes the model in it: {value.__name__}:{names[0] if names else 'NAME'}")  # fmt: skip
    if isinstance(value, type) or (callable(value) and not isinstance(value, torch.nn.Module)):
        return RefNotFound(kind, fix="let it return the module itself, and not what makes it")
    if (
        isinstance(value, Mapping)
        and value
        and all(isinstance(item, torch.Tensor) for item in value.values())
    ):
        return RefNotFound(kind, why="it is a state dict: tensors, and not what computes with them",
                           fix=f"name what builds the module, and give the tensors as a file: {ref.place}:make --weights FILE")  # fmt: skip
    return RefNotFound(
        kind, fix="name an instance or a subclass of torch.nn.Module, or a function that returns one"
    )


def _kind(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"{_one(type(value).__name__)} of {', '.join(type(item).__name__ for item in value[:6]) or 'nothing'}"
    if isinstance(value, Mapping):
        return f"{_one(type(value).__name__)} with the keys {listed([str(key) for key in value]) or 'none'}"
    return "None" if value is None else _one(type(value).__name__)


def _one(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"


def _held(value: object) -> str | None:
    """Where a module stands in a tuple, a dictionary or an object of a library (a processor, a trainer): ``[0]``."""
    items: list[tuple[str, Any]] = []
    if isinstance(value, (tuple, list)):
        items = [(f"[{number}]", item) for number, item in enumerate(value)]
    elif isinstance(value, Mapping):
        items = [(f"[{show_literal(key)}]", item) for key, item in value.items()]
    elif not isinstance(value, type) and hasattr(value, "__dict__"):
        items = [(f".{name}", item) for name, item in vars(value).items() if not name.startswith("_")]
    places = [place for place, item in items if isinstance(item, torch.nn.Module)]
    return places[0] if places else None


def _factory(ref: Ref, place: str) -> str:
    """A function to paste, as for a Hugging Face folder."""
    if ref.file is not None:
        call = str(Ref(ref.module, ref.file, ref.name, ref.args, ref.kwargs, called=True))[
            len(ref.place) + 1 :
        ]
        return f"put this into {ref.file}, then: mlconv onnx {ref.place}:model_alone\n    def model_alone():\n        return {call}{place}"
    call = str(Ref(ref.module, ref.file, ref.name, ref.args, ref.kwargs, called=True))[len(ref.place) + 1 :]
    first = ref.name.partition(".")[0]
    return (
        f"put this into net.py, then: mlconv onnx net.py:make\n    from {ref.module} import {first}\n\n"
        f"    def make():\n        return {call}{place}"
    )
