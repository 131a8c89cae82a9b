"""Keras files, loaded by the Keras that can: Keras 3, else the Keras 2 of the package ``tf_keras``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlconv.convert.job import Options
from mlconv.convert.tensorflow_import import custom_objects, keras_weights
from mlconv.convert.tensorflow_import.custom_objects import CustomObjects
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import (
    CustomObjectsNeeded,
    MissingPackage,
    MlconvError,
    OtherKeras,
    SourceDoesNotRun,
    listed,
)
from mlconv.formats import ModelFile, keras_code, keras_file, mapped
from mlconv.formats.keras_code import Named
from mlconv.formats.refs import for_shell
from mlconv.messages import Scene, keras_words, recognised
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
        path: The file that holds the weights; None where the model was never in one.
    """

    model: Any
    keras: Any
    warnings: tuple[str, ...] = ()
    path: Path | None = None

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
        CustomObjectsNeeded: It uses classes or functions that neither Keras nor `--custom-objects` has.
        OtherKeras: Those of `--custom-objects` are of the other Keras.
        SourceDoesNotRun: No Keras loads it, or a class of `--custom-objects` makes its weights in another order.
    """
    tensorflow()
    source = mapped.path_of(model)
    content = keras_file.read(source)
    if not options.trust_model:
        keras_code.assert_no_code(content.config, model.ref)
    is_keras_2 = not content.metadata.get("keras_version", "").startswith("3")
    if is_keras_2 and options.custom_objects:
        # what `from tensorflow import keras` means in the user's file: the Keras that wrote the model
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1" if importlib.util.find_spec("tf_keras") else "0")
    objects = custom_objects.import_objects(options.custom_objects)
    loading = _Loading(
        model.ref, _under_own_suffix(source, scratch), content, objects,
        options.trust_model,
    )  # fmt: skip
    found = loading.by_keras_2_or_3() if is_keras_2 else loading.by_keras_3()
    notes = keras_weights.assert_in_order(
        found.model, loading.path, objects.classes, model.ref, options.custom_objects or ""
    )
    return replace(found, warnings=(*found.warnings, *notes))


@dataclass(frozen=True, slots=True)
class _Loading:
    """A Keras file on its way through one Keras or the other.

    Attributes:
        path: The file, or a link to it, under the suffix of what it is.
    """

    ref: str
    path: Path
    content: keras_file.KerasModel
    objects: CustomObjects
    trusted: bool

    @property
    def names(self) -> tuple[Named, ...]:
        return keras_code.named(self.content.config)

    def by_keras_3(self) -> KerasModel:
        import keras

        self._assert_of("keras")
        try:
            return KerasModel(self._load_3(), keras, path=self.path)
        except Exception as error:  # Keras raises any kind for a file that it cannot read
            raise self._not_loaded(error, keras) from error

    def by_keras_2_or_3(self) -> KerasModel:
        """What Keras 2 wrote: Keras 3 reads it where it can, unless the user's layers are of Keras 2."""
        import keras

        own = {owner for _, owner in self._used()}
        if own == {"tf_keras"}:
            return self._by_keras_2(None)
        try:
            return KerasModel(self._load_3(), keras, path=self.path)
        except Exception as error:  # as above
            if "keras" in own:
                missing = self._missing(keras)
                if missing:
                    raise self._needed(missing) from error
                raise self._other(("tf_keras", "Keras 2"), error) from error
            return self._by_keras_2(error)

    def _load_3(self) -> Any:
        import keras

        with keras.saving.custom_object_scope(self.objects.for_names(self.names)):
            return keras.models.load_model(self.path, compile=False, safe_mode=not self.trusted)

    def _by_keras_2(self, failure: Exception | None) -> KerasModel:
        """By ``tf_keras``, which imports any module that the file names: so each must be given, or consented to."""
        import keras

        try:
            import tf_keras
        except ImportError as error:
            raise MissingPackage(
                f"`{self.ref}` was written by Keras 2, and Keras {keras.__version__} does not load it",
                why=None if failure is None else decisive_line(failure), fix=INSTALL_KERAS_2,
            ) from error  # fmt: skip
        scope = self.objects.for_names(self.names)
        registered = {
            named.registered
            for named in self.names
            if tf_keras.saving.get_registered_object(named.registered)
        }
        if not self.trusted and keras_code.foreign_modules(self.content.config, scope.keys() | registered):
            missing = [named for named in self._missing(tf_keras) if named.is_foreign]
            raise self._needed(missing or [named for named in self.names if named.is_foreign])
        try:
            with tf_keras.saving.custom_object_scope(scope):
                loaded = self._load_2(tf_keras)
        except Exception as error:  # as above
            raise self._not_loaded(error, tf_keras) from error
        reason = (
            f"since Keras {keras.__version__} refuses it: {decisive_line(failure)}"
            if failure
            else f"as `{self.objects.told}` is"
        )
        told = f"loaded by tf_keras {tf_keras.__version__} (Keras 2), {reason}"
        return KerasModel(loaded, tf_keras, (told,), self.path)

    def _load_2(self, tf_keras: Any) -> Any:
        """As Keras 2 does, but for functions of an HDF5 file, which tf_keras 2.16 and later write as it cannot read them."""
        own = [named for named in self.names if named.is_function and named.name in self.objects.by_name]
        if self.path.suffix != ".h5" or not own:
            return tf_keras.models.load_model(self.path, compile=False)
        model = tf_keras.models.model_from_json(json.dumps(_functions_by_name(self.content.config)))
        model.load_weights(self.path)
        return model

    # -------------------------------------------------------------- what is missing, in words

    def _used(self) -> list[tuple[str, str]]:
        """Classes of `--custom-objects` that the model names, with the Keras that they derive from."""
        wanted = {named.name for named in self.names}
        return [(name, owner) for name, owner in self.objects.keras_of().items() if name in wanted]

    def _assert_of(self, package: str) -> None:
        if any(owner != package for _, owner in self._used()):
            raise self._other((package, "Keras 3"), None)

    def _other(self, wanted: tuple[str, str], failure: Exception | None) -> OtherKeras:
        package, told = wanted
        wrong = [name for name, owner in self._used() if owner != package]
        other = "Keras 2 (tf_keras)" if package == "keras" else "Keras 3 (keras)"
        import_line = "import keras" if package == "keras" else "import tf_keras as keras"
        return OtherKeras(
            f"{listed(wrong)} of `{self.objects.told}` {'is a class' if len(wrong) == 1 else 'are classes'} of {other}, and `{self.ref}` was written by {told}",
            why=None if failure is None else f"Keras 3 does not load it: {decisive_line(failure)}",
            fix=f"write `{import_line}` in {self.objects.told}, in place of its import of Keras",
        )  # fmt: skip

    def _missing(self, keras: Any) -> list[Named]:
        """What neither this Keras nor `--custom-objects` has, as far as the configuration tells."""
        given = self.objects.for_names(self.names)
        return [
            named for named in self.names
            if named.registered not in given and named.name not in given and not _has(keras, named)
        ]  # fmt: skip

    def _not_loaded(self, error: Exception, keras: Any) -> MlconvError:
        missing = self._missing(keras)
        if missing:
            return self._needed(missing)
        unknown = missing_class(error)
        if unknown:
            return self._needed([Named(unknown.rpartition(">")[2], unknown)])
        if isinstance(error, MlconvError):
            return error
        known = recognised(error, Scene(self.ref), keras_words.LOAD)
        return self._arguments(error) or known or self._of_other_version(error, keras)

    def _needed(self, missing: Sequence[Named]) -> CustomObjectsNeeded:
        count = "a class or function" if len(missing) == 1 else f"{len(missing)} classes and functions"
        shown = ", ".join(map(str, missing[:6])) + (
            f" and {len(missing) - 6} more" if len(missing) > 6 else ""
        )
        if self.objects.told:
            close = self.objects.nearest(missing[0].name)
            return CustomObjectsNeeded(
                f"neither Keras nor `{self.objects.told}` has what `{self.ref}` uses: {shown}",
                why=f"nearest in `{self.objects.told}`: {listed(close)}" if close else f"it has {listed(list(self.objects.by_name)) or 'no class or function'}",
                fix=f"define {listed([named.name for named in missing])} in {self.objects.told}, or import it there",
            )  # fmt: skip
        modules = list(
            dict.fromkeys(
                named.module
                for named in missing
                if named.is_foreign and named.module not in (None, "builtins")
            )
        )
        return CustomObjectsNeeded(
            f"`{self.ref}` uses {count} that Keras does not have: {shown}",
            why=f"a Keras file holds names and no code; the code was in {listed([str(module) for module in modules])}" if modules
            else "a Keras file holds names and no code",
            fix=f"--custom-objects {for_shell(self._guess(modules))}, with the code; or {_EXPORT}",
        )  # fmt: skip

    def _guess(self, modules: Sequence[str | None]) -> str:
        """The file that a module's name leads to, here or beside the model; else what it would be called."""
        for module in modules:
            relative = Path(*str(module).split(".")).with_suffix(".py")
            for folder in (Path(), self.path.parent):
                if (folder / relative).is_file():
                    return str(folder / relative)
        return (
            "FILE.py"
            if len(modules) != 1 or modules[0] == "__main__"
            else f"{str(modules[0]).rpartition('.')[2]}.py"
        )

    def _arguments(self, error: Exception) -> SourceDoesNotRun | None:
        """A class of the author's that wants arguments which the file does not hold, for want of ``get_config``."""
        match = re.search(
            r"(\w+)\.__init__\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+?)(?:\n|$)",
            str(error),
        )
        if match is None or match[1] not in self.objects.by_name:
            return None
        return SourceDoesNotRun(
            f"`{self.ref}` does not hold what `{match[1]}` of `{self.objects.told}` is made with: {match[2].strip()}",
            why="the class had no get_config() that returns it when the model was saved",
            fix=f"give it a default in {self.objects.told}, the value that the model was trained with; or {_EXPORT}",
        )  # fmt: skip

    def _of_other_version(self, error: Exception, keras: Any) -> SourceDoesNotRun:
        wrote = self.content.metadata.get("keras_version", "")
        name = "tf_keras" if keras.__name__ == "tf_keras" else "Keras"
        newer = _numbers(wrote) > _numbers(keras.__version__)
        return SourceDoesNotRun(
            f"{name} {keras.__version__} does not load `{self.ref}`" + (f", which Keras {wrote} wrote" if wrote and wrote != keras.__version__ else ""),
            why=decisive_line(error),
            fix=f"pip install 'keras>={wrote}'" if newer and name == "Keras"
            else f"load it with {f'Keras {wrote}' if wrote else 'the Keras that wrote it'} and export it: model.export('folder'); then convert the folder",
        )  # fmt: skip


def _functions_by_name(value: Any) -> Any:
    """A configuration with each serialized function as its bare name, as Keras 2 itself wrote them."""
    if isinstance(value, list):
        return [_functions_by_name(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "function" and isinstance(value.get("config"), str):
        return value["config"]
    return {key: _functions_by_name(item) for key, item in value.items()}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


_NAMESPACES = ("layers", "models", "initializers", "activations", "regularizers", "constraints", "losses", "metrics",
               "optimizers", "dtype_policies", "mixed_precision", "layers.experimental.preprocessing")  # fmt: skip
_WITHOUT_NAMESPACE = frozenset(
    {"Functional", "Sequential", "Model", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty",
     "TensorFlowOpLayer", "TensorShape", "Policy", "DTypePolicy", "DTypePolicyMap", "CompositeTensor", "TypeSpec", "linear"}
)  # fmt: skip
"""What Keras reads from a configuration without exporting it under that name."""


def _has(keras: Any, named: Named) -> bool:
    """Whether this Keras finds it: its own, or something that the user's file registered."""
    if keras.saving.get_registered_object(named.registered) is not None or named.name in _WITHOUT_NAMESPACE:
        return True
    if named.is_foreign:
        return False
    if named.module is not None and named.module != "builtins":
        return True  # a module of Keras's own, where the file says so
    for space in _NAMESPACES:
        place = keras
        for part in space.split("."):
            place = getattr(place, part, None)
        if hasattr(place, named.name):
            return True
    return False


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
