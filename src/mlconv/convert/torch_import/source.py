"""Loading a PyTorch source of any format, and running it as it is.

Nothing here runs code that a file holds: programs go through ``torch_pt2``, weights are read with
``weights_only=True``, TorchScript runs in its own interpreter without its two operators that open files, and a pickled
module is loaded with the user's consent alone.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mlconv.convert.torch_import import inputs as torch_inputs
from mlconv.convert.torch_import import pt2 as torch_pt2
from mlconv.convert.torch_import import ref as torch_ref
from mlconv.convert.torch_import import script as torch_script
from mlconv.convert.torch_import import weights as torch_weights
from mlconv.convert.job import Options
from mlconv.convert.torch_import.program import program_signature
from mlconv.errors import (
    Corrupt,
    MissingFile,
    ModuleNeeded,
    SourceDoesNotRun,
    UntrustedPickle,
    WrongFormat,
    listed,
)
from mlconv.formats import ModelFile
from mlconv.runners.base import Runner
from mlconv.runners.torch_eager import Pack
from mlconv.tensors import Axis, TensorSpec, axes_of

_MODULE_KEYS = ("ema", "model", "module", "net", "network")
"""Where checkpoints keep a whole module; averaged weights are the ones that their authors run."""


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
    """

    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...]
    pack: Pack
    axes: dict[str, Axis]
    program: torch.export.ExportedProgram | None = None
    scripted: bool = False
    fixed: bool = False
    weights: str | None = None
    warnings: list[str] = field(default_factory=list)


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
    scripted = model.format == "torchscript"
    if scripted:
        module: torch.nn.Module = torch_script.load(_path(model), model.ref)
    elif model.format == "torch-pickle":
        module = _open_pickle(_path(model), model.ref, options)
    else:
        module, weights = _open_module(model, options, notes)
    module = _widened(module, notes)
    inputs, pack = torch_inputs.signature(module, options.input, model.ref)
    return Source(
        module,
        inputs,
        pack,
        axes_of(inputs, options.input),
        scripted=scripted,
        weights=weights,
        warnings=notes,
    )


def open_runner(model: ModelFile, options: Options) -> Runner:
    """The source as a runner, for `check` and `compare`.

    Raises:
        MlconvError: As ``open_source``; UserCodeRaised where `forward` raises on inputs of the given shapes.
    """
    from mlconv.convert.torch_import.reference import reference

    with warnings.catch_warnings(action="ignore"), tempfile.TemporaryDirectory(prefix="mlconv-") as scratch:
        return reference(open_source(model, options, Path(scratch)), options).runner


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
    source = Source(module, found.inputs, found.pack, found.axes, program, fixed=found.fixed)
    if found.trains:
        source.warnings.append(
            "the program was exported in training mode: dropout or batch statistics are part of it"
        )
    return source


def _open_module(model: ModelFile, options: Options, notes: list[str]) -> tuple[torch.nn.Module, str]:
    """A REF's module with its weights, and where they came from."""
    if model.format == "torch-module":
        ref, weights = model.ref, options.weights
    elif model.format == "torch-weights":
        if options.module is None:
            raise ModuleNeeded(
                f"`{model.ref}` holds weights and no network",
                fix=f"mlconv onnx {model.ref} --module FILE.py:CALLABLE",
            )
        ref, weights = options.module, str(_path(model))
    else:
        raise WrongFormat(
            f"`{model.ref}` is {model.format}, which PyTorch does not read", fix="mlconv formats"
        )
    module = torch_ref.build(ref, options.seed)
    if weights is None:
        notes.append(
            "the parameters are those which the constructor made; give --weights FILE for trained ones"
        )
        return module, "constructor"
    state = torch_weights.read_state(Path(weights), trusted=options.trust_pickle)
    fit = torch_weights.load_weights(module, state, Path(weights).name)
    if fit.left_out:
        notes.append(
            f"{len(fit.left_out)} tensors of {Path(weights).name} are not the module's: {listed(fit.left_out, 3)}"
        )
    if fit.narrow:
        notes.append(f"the weights are {' and '.join(fit.narrow)} and were converted to float32")
    return module, weights if model.format == "torch-module" else model.ref


def _open_pickle(path: Path, ref: str, options: Options) -> torch.nn.Module:
    """The module in a pickle, which is run to get it: only with consent."""
    if not options.trust_pickle:
        raise UntrustedPickle(
            f"`{ref}` is a pickled module", why="loading it runs code that it holds",
            fix="--trust-pickle, if you know who made the file; or save module.state_dict() and give --module REF",
        )  # fmt: skip
    sys.path += [
        str(path.resolve().parent),
        str(Path.cwd()),
    ]  # at the end: the classes that it names may lie there
    try:
        value: object = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise SourceDoesNotRun(
            f"`{ref}` needs a class that cannot be imported", why=f"{type(error).__name__}: {error}",
            fix="run mlconv in the folder of the project that saved it, or save module.state_dict() and give --module REF",
        ) from error  # fmt: skip
    except Exception as error:  # whatever the pickle's own code raises
        raise Corrupt(
            f"`{ref}` cannot be unpickled",
            why=f"{type(error).__name__}: {error}",
            fix="fetch or save it again",
        ) from error
    module = _module_in(value)
    if module is None:
        keys = [str(key) for key in value] if isinstance(value, dict) else [type(value).__name__]
        raise WrongFormat(
            f"`{ref}` holds no nn.Module",
            why=f"it holds {listed(keys)}",
            fix="give --module REF with its weights",
        )
    inner = (
        module.module
        if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel))
        else module
    )
    return inner.eval()


def _module_in(value: object) -> torch.nn.Module | None:
    if isinstance(value, torch.nn.Module):
        return value
    if isinstance(value, dict):
        for key in (*_MODULE_KEYS, *value):
            if isinstance(value.get(key), torch.nn.Module):
                return value[key]  # type: ignore[no-any-return]
    return None


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
