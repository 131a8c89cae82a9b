"""Keras files, loaded by the Keras that can: Keras 3, else the Keras 2 of the package ``tf_keras``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv.convert.job import Options
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import (
    ConverterFailed,
    MissingPackage,
    MlconvError,
    SourceDoesNotRun,
    UntrustedCode,
    listed,
)
from mlconv.formats import ModelFile, keras_file, mapped
from mlconv.runners.tensorflow import tensorflow

_ZIP = b"PK\x03\x04"
INSTALL_KERAS_2 = (
    "pip install --no-deps tf_keras"  # with its dependencies pip lays `tensorflow` over `tensorflow-cpu`
)


@dataclass(frozen=True, slots=True)
class KerasModel:
    """A loaded model and the Keras that loaded it.

    Attributes:
        keras: The module, ``keras`` or ``tf_keras``: what the model's tensors and structures belong to.
        warnings: One sentence each.
    """

    model: Any
    keras: Any
    warnings: tuple[str, ...] = ()

    @property
    def is_keras_2(self) -> bool:
        return bool(self.keras.__name__ == "tf_keras")


def load(model: ModelFile, options: Options, scratch: Path) -> KerasModel:
    """The model, without its optimizer and loss.

    Args:
        scratch: A folder for a link under the suffix that Keras wants; it judges a file by that alone.

    Raises:
        Corrupt: The file is neither a Keras archive nor HDF5, or holds no model.
        UntrustedCode: It carries Python and `--trust-model` was not given.
        MissingPackage: Keras 2 wrote it, Keras 3 does not load it, and ``tf_keras`` is not installed.
        ConverterFailed: It uses layers that no installed package has.
        SourceDoesNotRun: No Keras loads it.
    """
    tensorflow()
    source = mapped.path_of(model)
    content = keras_file.read(source)
    if not options.trust_model:
        _assert_no_code(content, model.ref)
    path = _under_own_suffix(source, scratch)
    import keras

    try:
        loaded = keras.models.load_model(path, compile=False, safe_mode=not options.trust_model)
    except Exception as error:  # Keras raises any kind for a file that it cannot read
        if content.metadata.get("keras_version", "").startswith("3"):
            raise _not_loaded(error, model.ref, f"Keras {keras.__version__} does not load") from error
        return _with_keras_2(path, model, error, keras.__version__)
    return KerasModel(loaded, keras)


def _with_keras_2(path: Path, model: ModelFile, failure: Exception, version: str) -> KerasModel:
    try:
        import tf_keras
    except ImportError as error:
        raise MissingPackage(f"`{model.ref}` was written by Keras 2, and Keras {version} does not load it",
                             why=decisive_line(failure), fix=INSTALL_KERAS_2) from error  # fmt: skip
    try:
        loaded = tf_keras.models.load_model(path, compile=False)
    except Exception as error:  # as above
        raise _not_loaded(
            error, model.ref, f"neither Keras {version} nor tf_keras {tf_keras.__version__} loads"
        ) from error
    told = f"loaded by tf_keras {tf_keras.__version__} (Keras 2), since Keras {version} refuses it: {decisive_line(failure)}"
    return KerasModel(loaded, tf_keras, (told,))


def _not_loaded(error: Exception, ref: str, told: str) -> MlconvError:
    missing = missing_class(error)
    if missing:
        return ConverterFailed(f"`{ref}` uses `{missing}`, which is not part of Keras", why=decisive_line(error),
                               fix="export the model where that class is defined: model.export(folder), and convert the folder")  # fmt: skip
    return SourceDoesNotRun(f"{told} `{ref}`", why=decisive_line(error),
                            fix="load it with the Keras that wrote it and save it as .keras, or export it as a SavedModel")  # fmt: skip


_MISSING = (
    r"Could not locate class '([^']+)'", r"Could not locate function '([^']+)'", r"Unknown (?:layer|object|class)[:\s]+'?([\w>.]+)'?",
    r"class '([^']+)' (?:is )?not (?:registered|found)",
)  # fmt: skip


def missing_class(error: Exception) -> str | None:
    """The class that Keras could not find, where that is what it says."""
    return next((match[1] for pattern in _MISSING if (match := re.search(pattern, str(error)))), None)


def _under_own_suffix(path: Path, scratch: Path) -> Path:
    """The file under the suffix of what it is: HDF5 files called `.keras` are common."""
    with path.open("rb") as file:
        suffix = ".keras" if file.read(4) == _ZIP else ".h5"
    if path.suffix == suffix:
        return path
    link = scratch / f"source{suffix}"
    try:
        link.symlink_to(path.absolute())
    except OSError:
        shutil.copyfile(path, link)
    return link


# ------------------------------------------------------------------ code that a file carries

_CALLS = (
    "TFOpLambda",
    "SlicingOpLambda",
    "TensorFlowOpLayer",
)  # Keras 2's layers that call TensorFlow by a name in the file
_REACHING_OUT = re.compile(
    r"(tf\.|tensorflow\.|compat\.v[12]\.)*(io|train|saved_model|raw_ops|data|summary|distribute|config|load_\w*)\b"
    r"|.*(py_func|numpy_function|load_library|load_op_library|read_file|write_file)"
)


def _assert_no_code(content: keras_file.KerasModel, ref: str) -> None:
    """Refuse Python in the file, and TensorFlow functions that reach out of the model.

    Keras 3 has a guard of its own for its own format; Keras 2 unmarshals a Lambda's byte code without asking.
    """
    carried = keras_file.marshalled(content)
    called = sorted(set(_reaching_out(content.config)))
    if carried or called:
        raise UntrustedCode(
            f"`{ref}` carries Python code in {listed(carried)}" if carried
            else f"`{ref}` calls functions that reach out of the model: {listed(called)}",
            why="Keras runs it as it loads the model", fix="--trust-model, if you know who made the file",
        )  # fmt: skip


def _reaching_out(config: Any) -> Iterator[str]:
    rest = [config]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            inner = value.get("config")
            function = inner.get("function") if isinstance(inner, dict) else None
            if (
                value.get("class_name") in _CALLS
                and isinstance(function, str)
                and _REACHING_OUT.match(function)
            ):
                yield function
            rest += value.values()
        elif isinstance(value, list):
            rest += value
