"""A REF to the module that it names: importing a file or package, and calling what stands in it.

Naming a REF is the consent to run it; nothing else in mlconv imports a user's code for PyTorch.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import torch

from mlconv.errors import MissingFile, RefNotFound, UserCodeRaised, listed, nearest
from mlconv.formats.refs import Ref, parse_ref


def build(text: str, seed: int = 0) -> torch.nn.Module:
    """The module that a REF names, or that the callable it names returns, in eval mode on the CPU.

    Random parameters are those of ``seed``.

    Raises:
        MissingFile: The file of the REF is not there.
        RefNotFound: There is no such module or name in it, or it is no ``nn.Module``.
        UserCodeRaised: Importing or calling it raised.
    """
    ref = parse_ref(text)
    # at the end, so that a file beside net.py never hides a library of the same name
    sys.path.append(str(ref.file.resolve().parent) if ref.file else str(Path.cwd()))
    torch.manual_seed(seed)
    random.seed(seed)
    value = _attribute(_import(ref, text), ref, text)
    if not isinstance(value, torch.nn.Module):
        value = _call(value, ref, text)
    if not isinstance(value, torch.nn.Module):
        raise RefNotFound(
            f"`{text}` gives a {type(value).__name__}, and an nn.Module is needed",
            fix="name an instance or a subclass of torch.nn.Module, or a function that returns one",
        )
    return value.eval().to("cpu")


def _import(ref: Ref, text: str) -> ModuleType:
    if ref.file is not None and not ref.file.is_file():
        raise MissingFile(f"no file `{ref.file}`", fix=f"name an existing file in `{text}`")
    try:
        return _load_file(ref.file) if ref.file else importlib.import_module(str(ref.module))
    except (Exception, SystemExit) as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and not ref.file
            and f"{ref.module}.".startswith(f"{error.name}.")
        ):
            raise RefNotFound(
                f"there is no module `{ref.module}`",
                fix=f"install it, or run mlconv in the folder that holds `{ref.module}`",
            ) from error
        raise _raised(f"importing `{ref.file or ref.module}`", error) from error


def _load_file(file: Path) -> ModuleType:
    """The file as a module of its own name, so that what it pickles or registers is found again."""
    name = file.stem if _is_free(file) else f"_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RefNotFound(f"`{file}` is no Python file", fix="name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_free(file: Path) -> bool:
    """Whether no library bears the file's name: a user's `timm.py` must not stand where `import timm` looks."""
    try:
        found = importlib.util.find_spec(file.stem)
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return False
    return found is None or found.origin == str(file.resolve())


def _attribute(module: ModuleType, ref: Ref, text: str) -> object:
    value: object = module
    for part in ref.name.split("."):
        if not hasattr(value, part):
            names = [name for name in dir(value) if not name.startswith("_")]
            close = nearest(part, names)
            raise RefNotFound(
                f"`{ref.file or ref.module}` has no `{ref.name}`",
                why=f"nearest: {listed(close)}" if close else f"it has {listed(names) or 'no public name'}",
                fix=text.replace(f":{ref.name}", f":{close[0]}") if close else "name what builds the module",
            )
        value = getattr(value, part)
    return value


def _call(value: object, ref: Ref, text: str) -> object:
    if not callable(value):
        return value
    try:
        return value(*ref.args, **ref.kwargs)
    except (Exception, SystemExit) as error:
        raise _raised(f"`{text}`", error) from error


def _raised(what: str, error: BaseException) -> UserCodeRaised:
    if "torchvision::nms does not exist" in str(error):
        return UserCodeRaised(
            f"{what} imports torchvision, which was not built for torch {torch.__version__}", why=f"RuntimeError: {error}",
            fix="install the build of torchvision that belongs to this torch (same CUDA version or CPU)",
        )  # fmt: skip
    return UserCodeRaised(
        f"{what} raised {type(error).__name__}", why=str(error)[:1000] or None,
        fix="mend it there, or give the arguments that it needs: 'FILE.py:NAME(10, pretrained=False)'",
    )  # fmt: skip
