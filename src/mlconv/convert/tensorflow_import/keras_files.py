"""Keras files, loaded by the Keras that can: Keras 3, else the Keras 2 of the package ``tf_keras``."""

from __future__ import annotations

import re
import shutil
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
    listed,
)
from mlconv.formats import ModelFile, keras_code, keras_file, mapped
from mlconv.runners.tensorflow import tensorflow

_ZIP = b"PK\x03\x04"
INSTALL_KERAS_2 = (
    "pip install --no-deps tf_keras"  # with its dependencies pip lays `tensorflow` over `tensorflow-cpu`
)

_EXPORT = "export the model where its classes are defined: model.export('folder'), and convert the folder"


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
        UntrustedCode: It carries Python, or calls what is not known to be harmless, and `--trust-model` was not given.
        MissingPackage: Keras 2 wrote it, Keras 3 does not load it, and ``tf_keras`` is not installed.
        ConverterFailed: It uses layers that no installed package has.
        SourceDoesNotRun: No Keras loads it.
    """
    tensorflow()
    source = mapped.path_of(model)
    content = keras_file.read(source)
    if not options.trust_model:
        keras_code.assert_no_code(content.config, model.ref)
    path = _under_own_suffix(source, scratch)
    import keras

    try:
        loaded = keras.models.load_model(path, compile=False, safe_mode=not options.trust_model)
    except Exception as error:  # Keras raises any kind for a file that it cannot read
        if content.metadata.get("keras_version", "").startswith("3"):
            raise _not_loaded(error, model.ref, f"Keras {keras.__version__} does not load") from error
        if not options.trust_model:
            _assert_keras_alone(content, model.ref)
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


def _assert_keras_alone(content: keras_file.KerasModel, ref: str) -> None:
    """Refuse classes of other modules, which Keras 2 imports by the names that the file gives; Keras 3 does not."""
    modules = keras_code.foreign_modules(content.config)
    if modules:
        raise ConverterFailed(
            f"`{ref}` uses classes of {listed(modules)}, which is not part of Keras", why="Keras 2 would import what the file names",
            fix=f"{_EXPORT}; --trust-model imports them",
        )  # fmt: skip


def _not_loaded(error: Exception, ref: str, told: str) -> MlconvError:
    missing = missing_class(error)
    if missing:
        return ConverterFailed(f"`{ref}` uses `{missing}`, which is not part of Keras", why=decisive_line(error),
                               fix=_EXPORT)  # fmt: skip
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
