"""`--custom-objects`: the user's own layers and functions, imported and offered to Keras by every name that a file may use.

Naming the file or module is the consent to run it. Nothing that a model file names is ever imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from mlconv.errors import MissingFile, RefNotFound, UserCodeRaised, listed, nearest
from mlconv.formats.keras_code import Named
from mlconv.formats.refs import for_shell

_LIBRARIES = (
    "keras",
    "tf_keras",
    "tensorflow",
    "numpy",
    "builtins",
    "typing",
    "collections",
    "functools",
    "math",
)
"""What a user's file imports from these is theirs: Keras has its own under the same names."""
_BASES = ("Layer", "Model", "Initializer", "Loss", "Metric", "Regularizer", "Constraint")


@dataclass(frozen=True, slots=True)
class CustomObjects:
    """What a file or module of the user's holds.

    Attributes:
        told: As the user named it; empty where nothing was.
        by_name: Its classes and functions by their names in the module.
    """

    told: str = ""
    by_name: Mapping[str, Any] = field(default_factory=dict)

    def for_names(self, names: Iterable[Named]) -> dict[str, Any]:
        """``custom_objects`` for Keras: each object by its own name and by the registered names that a model uses.

        A model that was saved with ``package>Name`` finds ``Name`` although the file no longer registers it.
        """
        found = dict(self.by_name)
        for named in names:
            if named.name in self.by_name:
                found.setdefault(named.registered, self.by_name[named.name])
        return found

    def keras_of(self) -> dict[str, str]:
        """For each class that derives from one of Keras's: ``keras`` or ``tf_keras``."""
        return {
            name: owner for name, value in self.by_name.items()
            if isinstance(value, type) and (owner := _keras_base(value)) is not None
        }  # fmt: skip

    @property
    def classes(self) -> tuple[type, ...]:
        return tuple(value for value in self.by_name.values() if isinstance(value, type))

    def nearest(self, name: str) -> list[str]:
        return nearest(name, self.by_name)


def import_objects(told: str | None) -> CustomObjects:
    """The classes and functions of ``FILE.py`` or ``MODULE``; none where nothing is named.

    The file's folder (for a module the current one) stands at the end of the import path, so that a file beside it
    is found and never hides a library.

    Raises:
        MissingFile: The file is not there.
        RefNotFound: There is no such module, or it is no Python file.
        UserCodeRaised: Importing it raised; the error names file and line.
    """
    if told is None:
        return CustomObjects()
    file = Path(told) if told.endswith(".py") or os.sep in told or Path(told).is_file() else None
    if file is not None:
        _assert_python(file, told)
    sys.path.append(str(file.resolve().parent if file else Path.cwd()))
    module = _import(told, file)
    return CustomObjects(told, {name: value for name, value in vars(module).items() if _is_own(name, value)})


def _assert_python(file: Path, told: str) -> None:
    if not file.is_file():
        beside = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
        close = nearest(file.name, beside)
        raise MissingFile(
            f"no file `{told}` for --custom-objects",
            why=f"nearest in `{file.parent}`: {listed(close)}" if close else None,
            fix=f"--custom-objects {for_shell(str(file.parent / close[0]))}" if close else "--custom-objects FILE.py, with the file that defines the layers",
        )  # fmt: skip
    if file.suffix != ".py":
        raise RefNotFound(
            f"`{told}` is no Python file",
            fix="--custom-objects with a file that ends in .py, or a module's name",
        )


def _import(told: str, file: Path | None) -> ModuleType:
    try:
        return _load(file) if file else importlib.import_module(told)
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        if isinstance(error, ModuleNotFoundError) and not file and f"{told}.".startswith(f"{error.name}."):
            file_beside = f"{told.replace('.', '/')}.py"
            raise RefNotFound(
                f"there is no module `{told}` for --custom-objects",
                why="it is looked for among installed packages, and then in the current folder",
                fix=f"--custom-objects {for_shell(file_beside)}, if that is the file's path; or install the package",
            ) from error
        raise UserCodeRaised(
            f"importing `{told}` raised {type(error).__name__}", why=f"{_place(error, file)}{error}"[:1000] or None,
            fix=_missing_import(error) or f"mend it there; `python {told if file else f'-m {told}'}` shows the whole traceback",
        ) from error  # fmt: skip


def _load(file: Path) -> ModuleType:
    """The file as a module of its own name, unless a library has that name."""
    spec = importlib.util.spec_from_file_location(file.stem if _is_free(file) else f"_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise RefNotFound(f"`{file}` is no Python file", fix="--custom-objects with a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _is_free(file: Path) -> bool:
    try:
        found = importlib.util.find_spec(file.stem)
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return False
    return found is None or found.origin == str(file.resolve())


def _place(error: BaseException, file: Path | None) -> str:
    """``FILE:LINE: `` of the innermost frame in the user's own folder."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}:{error.lineno}: "
    folder = str(file.resolve().parent if file else Path.cwd())
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: " if frames else ""


def _missing_import(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"put `{error.name.partition('.')[0]}.py` beside it, or install the package that `{error.name}` comes from"
    return None


def _is_own(name: str, value: Any) -> bool:
    """Whether a model may mean this by ``name``: a class or function that is not a library's."""
    if name.startswith("__") or isinstance(value, ModuleType) or not callable(value):
        return False
    return str(getattr(value, "__module__", "")).partition(".")[0] not in _LIBRARIES


def _keras_base(value: type) -> str | None:
    for base in value.__mro__[1:]:
        package = base.__module__.partition(".")[0]
        if package in ("keras", "tf_keras") and base.__name__ in _BASES:
            return package
    return None
