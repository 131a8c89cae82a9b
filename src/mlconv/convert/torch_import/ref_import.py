"""Importing the module or file of a REF, and saying in the user's own lines what went wrong there.

What stands beside the file is importable, and never hides a library: its folders go to the end of the import path.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import importlib.util
import pkgutil
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

import torch

from mlconv.errors import MissingFile, MissingPackage, MlconvError, RefNotFound, UserCodeRaised
from mlconv.formats.refs import Ref, for_shell
from mlconv.messages import Scene, recognised
from mlconv.messages.python_words import PYTHON

DISTRIBUTIONS = {
    "cv2": "opencv-python", "PIL": "pillow", "sklearn": "scikit-learn", "skimage": "scikit-image", "yaml": "pyyaml",
    "open_clip": "open_clip_torch", "pytorch_lightning": "pytorch-lightning", "dateutil": "python-dateutil", "attr": "attrs",
    "hydra": "hydra-core", "Crypto": "pycryptodome",
}  # fmt: skip
"""Packages whose name in ``import`` is not the one that pip installs them by."""
_OF_PROJECTS = frozenset(
    {"models", "model", "utils", "util", "src", "lib", "libs", "net", "nets", "network", "networks", "modules", "common", "core",
     "config", "configs", "layers", "data", "datasets", "dataset", "train", "main", "tools", "helpers", "scripts", "backbones"}
)  # fmt: skip
"""What folders and files of a project are called; no package that anybody means bears such a name."""
_LIBRARIES = tuple(
    {*(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")), str(Path(torch.__file__).parent),
     str(Path(__file__).parents[2])}
)  # fmt: skip
_CUDA = re.compile(
    r"not compiled with CUDA|No CUDA GPUs|NVIDIA driver|not linked with support for mps|CUDA error|"
    r"deserialize object on a (CUDA|MPS)",
    re.IGNORECASE,
)
_LINKS = 10  # of a chain of exceptions, which may go round


def import_place(ref: Ref, text: str) -> ModuleType:
    """The module or file in which the NAME of a REF stands.

    Raises:
        MissingFile: The file is not there.
        RefNotFound: There is no such module.
        UserCodeRaised: Importing it raised.
    """
    if ref.file is not None and not ref.file.is_file():
        raise MissingFile(f"no file `{ref.file}`", fix=f"name an existing file in `{text}`")
    _extend_path(ref)
    try:
        return _import_file(ref.file) if ref.file else importlib.import_module(str(ref.module))
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and not ref.file
            and f"{ref.module}.".startswith(f"{error.name}.")
        ):
            raise _no_module(ref, str(error.name)) from error
        raise raised(
            f"importing `{ref.place}`", error, Path(ref.file).resolve().parent if ref.file else None
        ) from error


def _extend_path(ref: Ref) -> None:
    """The file's folder and the current one, at the end: a file beside net.py never hides a library of its name."""
    folders = [str(ref.file.resolve().parent)] if ref.file else []
    sys.path += [folder for folder in (*folders, str(Path.cwd())) if folder not in sys.path]


def _import_file(file: Path) -> ModuleType:
    """The file as a module of its own name, so that what it pickles or registers is found again."""
    levels = _relative_levels(file)
    if levels:
        return _import_in_package(file.resolve(), levels)
    name = file.stem if _is_free(file.stem, file) else f"_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RefNotFound(f"`{file}` is no Python file", fix="name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _relative_levels(file: Path) -> int:
    """How many dots the file's relative imports have at most; 0 where it has none, or is no Python that parses."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return 0
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def _import_in_package(file: Path, levels: int) -> ModuleType:
    """A file with relative imports, as a module of the package that it lies in.

    The package reaches up as far as ``__init__.py`` files do, and at least as far as the dots.
    """
    folders = [file.parent]
    while len(folders) < levels or (folders[-1] / "__init__.py").is_file():
        if folders[-1].parent == folders[-1]:
            break
        folders.append(folders[-1].parent)
    while len(folders) > levels and not (folders[-1] / "__init__.py").is_file():
        folders.pop()
    top = folders[-1]
    name = top.name if _is_free(top.name, top / "__init__.py") else f"_user_{top.name}"
    if name not in sys.modules:
        _load_package(name, top)
    inner = [folder.name for folder in reversed(folders[:-1])]
    stem = [] if file.name == "__init__.py" else [file.stem]
    return importlib.import_module(".".join([name, *inner, *stem]))


def _load_package(name: str, folder: Path) -> None:
    """A folder as the package of that name, wherever it lies, with or without ``__init__.py``."""
    start = folder / "__init__.py"
    if start.is_file():
        spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
    else:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)


def _is_free(name: str, file: Path) -> bool:
    """Whether no library bears the name: a user's `timm.py` must not stand where `import timm` looks."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return False
    if found is None or found.origin == str(file.resolve()):
        return True
    # a folder without __init__.py has no origin, and is a library only where it is not the user's own
    places = [Path(place).resolve() for place in found.submodule_search_locations or ()]
    return found.origin is None and places == [file.resolve().parent]


# ------------------------------------------------------------------ what to say


def raised(
    what: str, error: BaseException, folder: Path | None = None, ref: Ref | None = None
) -> MlconvError:
    """What to say of a REF's code that raised.

    Args:
        ref: Where it was being called and not imported.
        folder: Where the REF's file lies, if it has one: a module that is missing may lie near it.
    """
    known = recognised(chain_of(error), Scene(what), PYTHON)
    if known:
        return known
    place = own_place(error)
    if isinstance(error, ModuleNotFoundError) and error.name and _installable(error.name, folder):
        return MissingPackage(
            f"{what} needs the package `{error.name.partition('.')[0]}`, which is not installed",
            why=f"at {place}" if place else str(error), fix=missing_module(error.name, folder),
        )  # fmt: skip
    told = f"{type(error).__name__}: {error}"[:1000] if str(error) else None
    why = f"{told or type(error).__name__} (at {place})" if place else told
    return UserCodeRaised(f"{what} raised {type(error).__name__}", why=why, fix=_cure(error, folder, ref))


def _cure(error: BaseException, folder: Path | None, ref: Ref | None) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing_module(error.name, folder)
    if _CUDA.search(chain_of(error)):
        return "build the model on the CPU, where mlconv runs it: leave out .cuda(), and load with map_location='cpu'"
    if isinstance(error, SyntaxError):
        return "mend that line, and see that python imports the file"
    if ref is not None and ref.module is not None and own_place(error) is None:
        first = ref.name.partition(".")[0]
        return f'give it what it takes: python -c "from {ref.module} import {first}; help({ref.name})"'
    if ref is None or not (ref.args or ref.kwargs):
        return "mend it there, and see that python runs it"
    return f"mend it there, or give `{ref.place}:{ref.name}` other arguments"


def missing_module(name: str, folder: Path | None = None) -> str:
    """What to do about a module that is not there: where it lies nearby, or what installs it."""
    top = name.partition(".")[0]
    near = _nearby(top, folder)
    if near is not None:
        return f"run mlconv in the folder that holds `{top}`: cd {for_shell(str(near))}"
    if top in _OF_PROJECTS:
        return f"run mlconv in the folder of the project that holds `{top}`"
    return f"pip install {DISTRIBUTIONS.get(top, top)}, or run mlconv in the folder that holds `{top}`"


def _installable(name: str, folder: Path | None) -> bool:
    """Whether a module that is missing is a package to install: none of the user's own files, no part of what is there."""
    top = name.partition(".")[0]
    return (
        top not in _OF_PROJECTS
        and _nearby(top, folder) is None
        and top not in sys.modules
        and not _is_here(top)
    )


def _is_here(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _nearby(top: str, folder: Path | None) -> Path | None:
    """The folder around a REF's file in which a module of that name lies."""
    for near in () if folder is None else (folder, *folder.parents[:3]):
        if (near / f"{top}.py").is_file() or (near / top).is_dir():
            return near
    return None


def own_place(error: BaseException) -> str | None:
    """The innermost line that lies in no library: ``net.py:12 `return Net(width)```."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_LIBRARIES, "<"))
    ]
    if not frames:
        return None
    last = frames[-1]
    return f"{Path(last.filename).name}:{last.lineno}" + (f" `{last.line.strip()}`" if last.line else "")


def chain_of(error: BaseException) -> str:
    """The messages of an error and of those that it came from."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(texts) < _LINKS:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


def _no_module(ref: Ref, missing: str) -> RefNotFound:
    what = f"there is no module `{ref.module}`"
    whole = f"there is no `{missing}`; " if missing != ref.module else ""
    parent, dot, last = missing.rpartition(".")
    close = difflib.get_close_matches(last, _modules_in(parent), n=1, cutoff=0.75)
    if close:
        meant = f"{parent}{dot}{close[0]}"
        return RefNotFound(
            what, why=f"{whole}nearest: `{meant}`", fix=for_shell(str(ref).replace(missing, meant, 1))
        )
    return RefNotFound(what, why=whole.removesuffix("; ") or None, fix=missing_module(missing))


def _modules_in(package: str) -> list[str]:
    """The modules of an imported package; of an empty name those that can be imported at all."""
    places = getattr(sys.modules.get(package), "__path__", ()) if package else None
    return [info.name for info in pkgutil.iter_modules(places)]
