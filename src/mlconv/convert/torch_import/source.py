"""Loading a PyTorch source of any format, and running it as it is.

Nothing here runs code that a file holds: programs go through ``pt2``, weights through ``checkpoint``, TorchScript runs
in its own interpreter without its two operators that open files, and a pickled module is loaded with the user's consent
alone.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mlconv.convert.job import Options
from mlconv.convert.torch_import import inputs as torch_inputs
from mlconv.convert.torch_import import pt2 as torch_pt2
from mlconv.convert.torch_import import ref as torch_ref
from mlconv.convert.torch_import import script as torch_script
from mlconv.convert.torch_import.checkpoint import read_weights, unpickled
from mlconv.convert.torch_import.program import program_signature
from mlconv.convert.torch_import.weights import load_weights
from mlconv.errors import BadUsage, MissingFile, ModuleNeeded, UntrustedPickle, WrongFormat, listed
from mlconv.formats import ModelFile, archive, torch_export, torchscript
from mlconv.formats.refs import Ref, for_shell
from mlconv.formats.torch_checkpoint import MODULE_KEYS
from mlconv.runners.base import Runner
from mlconv.runners.torch_eager import Pack
from mlconv.tensors import Axis, TensorSpec, axes_of


@dataclass(slots=True)
class Source:
    """A source, ready to run.

    Attributes:
        module: In eval mode, on the CPU.
        inputs: The signature with the user's shapes laid over it.
        pack: Puts tensors in that order where `forward` wants them.
        axes: The dynamic axes and their ranges.
        program: Set for `.pt2`: what was exported, of which ``module`` is the runnable form.
        scripted: Whether ``module`` is TorchScript, which keeps its branches and loops when it is traced.
        fixed: Whether `--input` gave a dynamic axis of ``program`` a size.
        weights: As ``Converted.weights``.
        ref: As the user wrote it.
        example: Tensors in the signature's order on which the module is known to run, where it came with such.
    """

    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...]
    pack: Pack
    axes: dict[str, Axis]
    program: torch.export.ExportedProgram | None = None
    scripted: bool = False
    fixed: bool = False
    weights: str | None = None
    ref: str = ""
    warnings: list[str] = field(default_factory=list)
    example: tuple[torch.Tensor, ...] | None = None


def open_source(model: ModelFile, options: Options, scratch: Path) -> Source:
    """Load a source.

    Args:
        scratch: A folder to write to; nothing in it is needed afterwards.

    Raises:
        MlconvError: InputError where the source or its weights are at fault, UsageError where ``--input`` is,
            UserCodeRaised where a REF's own code is.
    """
    if model.format == "torch-export":
        return _open_program(_path(model), model, options, scratch)
    notes: list[str] = []
    weights: str | None = None
    if model.format == "torchscript":
        notes += _moved(_path(model))
        module: torch.nn.Module = torch_script.load(_path(model), model.ref)
    elif model.format == "torch-pickle" and options.module is None:
        module, weights = _open_pickle(_path(model), model.ref, options, notes)
    else:
        module, weights = _open_module(model, options, notes)
    module = _widened(module, notes)
    inputs, pack = torch_inputs.signature(module, options.input, model.ref)
    scripted = isinstance(module, torch.jit.ScriptModule)
    return Source(
        module,
        inputs,
        pack,
        axes_of(inputs, options.input),
        scripted=scripted,
        weights=weights,
        ref=model.ref,
        warnings=notes,
    )


def open_runner(model: ModelFile, options: Options) -> Runner:
    """The source as a runner, for `check` and `compare`.

    Raises:
        MlconvError: As ``open_source``; UserCodeRaised where `forward` raises on inputs of the given shapes.
    """
    from mlconv.convert.torch_import.reference import reference

    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory(prefix="mlconv-") as scratch:
        source = open_source(model, options, Path(scratch))
        runner = reference(source, options).runner
        runner.axes = source.axes
        return runner


def _path(model: ModelFile) -> Path:
    if model.path is None or not model.path.is_file():
        raise MissingFile(f"no file `{model.ref}`", fix="name an existing file")
    return model.path


def _open_program(path: Path, model: ModelFile, options: Options, scratch: Path) -> Source:
    program = torch_pt2.load(path, model.ref, scratch, options.signature)
    found = program_signature(program, options.input, model.ref)
    module = program.module()
    # a program has no modes, and torch raises where an exporter asks for one
    module.train = lambda _mode=True: module  # type: ignore[method-assign, assignment]
    source = Source(module, found.inputs, found.pack, found.axes, program, fixed=found.fixed, ref=model.ref)
    elsewhere = torch_export.devices(archive.open_archive(path))
    if elsewhere:
        source.warnings.append(f"the program was exported on {listed(elsewhere)}; it runs on the CPU here")
    if found.trains:
        source.warnings.append(
            "the program was exported in training mode: dropout or batch statistics are part of it"
        )
    return source


def _moved(path: Path) -> list[str]:
    """What is told of TorchScript that was made on a GPU."""
    with path.open("rb") as file:
        head = file.read(4)
    found = torchscript.devices(archive.open_archive(path)) if archive.is_zip(head) else []
    return [f"the code makes tensors on {listed(found)}; they are made on the CPU here"] if found else []


def _open_module(model: ModelFile, options: Options, notes: list[str]) -> tuple[torch.nn.Module, str]:
    """A REF's module with its weights, and where they came from."""
    if model.format == "torch-module":
        ref, weights = model.ref, options.weights
    elif model.format in ("torch-weights", "torch-pickle"):
        if options.module is None:
            raise ModuleNeeded(
                f"`{model.ref}` holds weights and no network",
                fix=f"mlconv onnx {for_shell(model.ref)} --module FILE.py:CALLABLE",
            )
        ref, weights = options.module, str(_path(model))
    else:
        raise WrongFormat(
            f"`{model.ref}` is {model.format}, which PyTorch does not read", fix="mlconv formats"
        )
    built = torch_ref.build_ref(ref, options.seed)
    if weights is None:
        if options.weights_prefix is not None:
            raise BadUsage("--weights-prefix is of no use without --weights", fix=f"--weights FILE --weights-prefix {for_shell(options.weights_prefix)}")  # fmt: skip
        notes.append(
            "the parameters are those which the constructor made, trained or not: nothing else says; --weights FILE gives others"
        )
        return torch_ref.assert_real(built.module, ref), "constructor"
    _widened(built.module, [])  # before they are laid in: trained weights would be rounded
    _load(built, Path(weights), options, notes)
    return torch_ref.assert_real(built.module, ref), weights if model.format == "torch-module" else model.ref


def _load(built: torch_ref.Built, path: Path, options: Options, notes: list[str]) -> None:
    fit = load_weights(built, read_weights(path, trusted=options.trust_pickle), options.weights_prefix)
    notes += fit.notes


def _open_pickle(
    path: Path, ref: str, options: Options, notes: list[str]
) -> tuple[torch.nn.Module, str | None]:
    """The module in a pickle, which is run to get it: only with consent. And the file of other weights, if one is given."""
    if not options.trust_pickle:
        raise UntrustedPickle(
            f"`{ref}` is a pickled module", why="loading it runs code that it holds",
            fix="--trust-pickle, if you know who made the file; or save module.state_dict() and give --module REF",
        )  # fmt: skip
    value = unpickled(path, ref)
    found = _module_in(value)
    if found is None:
        keys = [str(key) for key in value] if isinstance(value, dict) else [type(value).__name__]
        raise WrongFormat(
            f"`{ref}` holds no nn.Module",
            why=f"it holds {listed(keys)}",
            fix="give --module REF with its weights",
        )
    module, key, others = found
    if others:
        notes.append(f"the module under `{key}` of {path.name} was taken; it also holds {listed(others)}")
    module = torch_ref.unwrapped(module).eval()
    if options.weights is None:
        return module, None
    _widened(module, [])
    _load(
        torch_ref.Built(module, Ref(None, path, type(module).__name__)), Path(options.weights), options, notes
    )
    return module, options.weights


def _module_in(value: object) -> tuple[torch.nn.Module, str, list[str]] | None:
    """The module, the key under which it stands, and those of others; None where there is none."""
    if isinstance(value, torch.nn.Module):
        return value, "", []
    if not isinstance(value, dict):
        return None
    keys = [
        key for key in dict.fromkeys((*MODULE_KEYS, *value)) if isinstance(value.get(key), torch.nn.Module)
    ]
    return (value[keys[0]], str(keys[0]), [str(key) for key in keys[1:]]) if keys else None


def _widened(module: torch.nn.Module, notes: list[str]) -> torch.nn.Module:
    """The module in float32 where it was saved in half precision: few CPU kernels, here or in ONNX Runtime, take that."""
    tensors = (*module.parameters(), *module.buffers())
    narrow = sorted(
        {str(t.dtype).removeprefix("torch.") for t in tensors if t.dtype in (torch.float16, torch.bfloat16)}
    )
    if narrow:
        notes.append(f"the weights are {' and '.join(narrow)} and were converted to float32")
        module = module.float()
    return module
