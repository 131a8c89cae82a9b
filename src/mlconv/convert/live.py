"""Models that live in the caller's process: a module of a notebook, a Keras model of a test.

Their classes exist nowhere else, so their own converter and the reference run here; whatever follows (finishing,
checking, running the artifact, comparing) is a worker's work as for any file. Results and errors are the same.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from mlconv import registry
from mlconv.convert.job import Converted, Job, Options, Sourced
from mlconv.errors import (
    BadUsage,
    ConversionError,
    ConverterFailed,
    MissingPackage,
    MlconvError,
    OptionNotAccepted,
    WrongFormat,
)
from mlconv.formats import ModelFile
from mlconv.paths import logs_folder
from mlconv.runners.base import Feeds, Runner
from mlconv.worker import Listener


class Room(Protocol):
    """What a framework does for its live models; one module each, which imports the framework."""

    def convert(self, job: Job) -> Converted:
        """The model converted, with its reference. It runs within ``undisturbed``."""
        ...

    def runner(self, options: Options) -> tuple[Runner, Feeds]:
        """The model ready to run, and the example by input name; empty where there is none."""
        ...

    def undisturbed(self) -> contextlib.AbstractContextManager[None]:
        """Leaves the framework's global state as it was: generators of random numbers, flags, modes."""
        ...


@dataclass(frozen=True, slots=True)
class Live:
    """A model of this process, as a source.

    Attributes:
        model: ``<Net>`` with its format. Its path is None; that of what was saved into a file of ours where no
            room is needed, such as an ONNX model.
        name: The stem of the default output.
        identity: Names the network: its class with the names and shapes of its parameters. One that was trained
            further is the same source, another network of the same class is not.
        parameters: SHA-256 of its parameters; None where ``model`` has a path.
    """

    model: ModelFile
    name: str
    identity: str
    parameters: str | None = None
    room: Room | None = None

    def convert(self, converter: registry.Converter, job: Job, listener: Listener) -> Sourced:
        """What ``source_job.convert`` does in a worker.

        Raises:
            MlconvError: As the converter raises it.
            ConverterFailed: It raised anything else.
        """
        from mlconv.convert.source_job import convert_by

        assert self.room is not None
        _require(converter)
        if converter not in registry.CONVERTERS:
            raise WrongFormat(
                f"`{converter.name}` takes no live models",
                why="it is not one of mlconv's own converters",
                fix="save the model and convert its file, or leave via out",
            )
        listener(f"converting with {converter.name}")
        said = io.StringIO()
        try:
            with self.undisturbed(said):
                return convert_by(self.room.convert, job, reference=True, witness=None)
        except MlconvError as error:
            error.log = _kept(said) if error.exit >= ConversionError.exit else None
            raise
        except Exception as error:
            raise ConverterFailed(
                f"`{converter.name}` could not convert `{self.model.ref}`",
                why=f"{type(error).__name__}: {_first_line(error)}",
                fix="the exception that caused this one tells where it happened",
                log=_kept(said),
            ) from error

    @contextlib.contextmanager
    def undisturbed(self, said: io.StringIO | None = None) -> Iterator[None]:
        """The caller's generators of random numbers, and all that the framework keeps, are the same afterwards.

        Args:
            said: Takes what frameworks print meanwhile, which is for a log and not for a notebook.
        """
        import numpy as np

        assert self.room is not None
        with _ONE_AT_A_TIME:
            ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002  the caller's, to be put back
            try:
                with self.room.undisturbed(), _listening(said or io.StringIO()):
                    yield
            finally:
                random.setstate(ours)
                np.random.set_state(numpys)  # noqa: NPY002


_ONE_AT_A_TIME = threading.RLock()
"""Streams, generators and switches of a framework are the process's: of two that put them back, the later one would put back
what the earlier one had set."""


class _Ear(io.TextIOBase):
    """A standard stream that keeps what this thread writes; what others write goes where it went."""

    def __init__(self, stream: TextIO, kept: io.StringIO) -> None:
        self._stream, self._kept, self._thread = stream, kept, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            return self._kept.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def _listening(kept: io.StringIO) -> Iterator[None]:
    with (
        contextlib.redirect_stdout(_Ear(sys.stdout, kept)), contextlib.redirect_stderr(_Ear(sys.stderr, kept)),
    ):  # fmt: skip
        yield


def _kept(said: io.StringIO) -> str | None:
    """What was said as a file among the logs; None where nothing was, or where there is no place for it."""
    if not said.getvalue().strip():
        return None
    try:
        folder = logs_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-live.log"
        path.write_text(said.getvalue())
    except (OSError, RuntimeError):  # as in a worker: RuntimeError where there is no home folder
        return None
    return str(path)


def is_live(source: object) -> bool:
    """Whether a source is no path and no REF."""
    return not isinstance(source, (str, os.PathLike))


def take(source: object, example: object, options: Options, folder: Any) -> Live:
    """A live model as a source; no framework is imported that its owner has not imported.

    Args:
        example: Inputs on which it runs, as it takes them; None where it tells its shapes itself.
        folder: A folder for what can be saved; it must stay until the source was used.

    Raises:
        OptionNotAccepted: An option that opens files.
        BadUsage: It is nothing that mlconv takes.
    """
    _refuse_options_of_files(source, options)
    for framework, kinds, opener in _ROOMS:
        package = sys.modules.get(framework)
        if package is not None and any(isinstance(source, kind) for kind in _classes(package, kinds)):
            module, _, function = opener.partition(":")
            taken: Live = getattr(importlib.import_module(module), function)(source, example, folder)
            return taken
    raise _no_source(source)


_ROOMS = (
    ("keras", ("Model",), "mlconv.convert.tensorflow_import.live:take"),
    ("tf_keras", ("Model",), "mlconv.convert.tensorflow_import.live:take"),
    ("torch", ("nn.Module",), "mlconv.convert.torch_import.live:take"),
    ("torch", ("export.ExportedProgram",), "mlconv.convert.torch_import.live:save"),
    ("onnx", ("ModelProto",), "mlconv.convert.onnx_graph.live:save"),
)
"""Package, the classes in it, and what makes a source of an instance. Keras first: on PyTorch its models are modules too."""


def _classes(package: Any, names: tuple[str, ...]) -> Iterator[type]:
    for name in names:
        value = package
        for part in name.split("."):
            value = getattr(value, part, None)
        if isinstance(value, type):
            yield value


def _refuse_options_of_files(source: object, options: Options) -> None:
    names = (
        "module",
        "weights",
        "weights_prefix",
        "custom_objects",
        "signature",
        "tag",
        "trust_pickle",
        "trust_model",
    )
    given = [name for name in names if getattr(options, name)]
    if given:
        told = ", ".join(f"`{name}`" for name in given)
        raise OptionNotAccepted(
            f"{told} means nothing to a live {type(source).__name__}",
            why="it is for models that are read from files",
            fix=f"leave {', '.join(given)} out",
        )


def _no_source(source: object) -> BadUsage:
    kind = type(source)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    head = kind.__module__.partition(".")[0]
    fix = "give a path, an nn.Module, a Keras model, an ExportedProgram or an onnx.ModelProto"
    if isinstance(source, type):
        name, fix = f"the class {source.__qualname__}", f"give an instance: {source.__qualname__}()"
    elif head == "tensorflow" or (head != "torch" and hasattr(source, "_trackable_children")):
        fix = "tf.saved_model.save(it, 'folder'), then give the folder"
    elif isinstance(source, bytes):
        fix = "write the bytes to a file, and give its path"
    elif isinstance(source, Mapping):
        name = f"a mapping with {len(source)} keys"
        fix = "load a state dict into its module, and give that: net.load_state_dict(it)"
    elif head == "sklearn":
        fix = "skl2onnx converts scikit-learn models"
    elif callable(source):
        fix = "wrap it in a torch.nn.Module whose forward calls it"
    return BadUsage(
        f"{name} is no source", why="it is neither a path nor a model that can be converted live", fix=fix
    )


def _require(converter: registry.Converter) -> None:
    """The converter's packages in this process; another interpreter has not got the model.

    Raises:
        MissingPackage: One is not installed.
    """
    missing = registry.absent(converter.needs)
    if missing:
        told = ", ".join(f"`{name.replace('|', '` or `')}`" for name in missing)
        raise MissingPackage(
            f"`{converter.name}` needs {told}, which {'is' if len(missing) == 1 else 'are'} not installed",
            why="a live model is converted in its own process",
            fix=converter.install or f"pip install {' '.join(missing)}",
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else "without a message"
