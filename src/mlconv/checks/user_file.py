"""A callable of the user's own file, ``FILE.py:NAME``: naming it is the consent to run it."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mlconv.errors import MissingFile, RefNotFound, UserCodeRaised, listed, nearest


def load(text: str, flag: str, parameters: int) -> Callable[..., Any]:
    """The callable that a text names.

    Args:
        flag: The option that names it.
        parameters: With how many arguments it will be called.

    Raises:
        MissingFile: The file is not there.
        RefNotFound: It has no such name, or what bears it cannot be called so.
        UserCodeRaised: The file raises.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise MissingFile(
            f"no file `{file}`", fix=f"{flag} FILE.py:CALLABLE with the path of an existing file"
        )
    found: Any = _module(path.resolve(), path.stat().st_mtime_ns)
    for part in name.split("."):
        if not hasattr(found, part):
            names = [own for own in vars(found) if own[0] != "_" and callable(getattr(found, own))]
            close = nearest(part, names, 1)
            raise RefNotFound(
                f"`{file}` has no `{name}`",
                why=f"it has {listed(names) or 'no callable'}",
                fix=f"{flag} {file}:{(close or names or ['NAME'])[0]}",
            )
        found = getattr(found, part)
    if not callable(found):
        raise RefNotFound(f"`{text}` is a {type(found).__name__}, and {flag} calls what it names",
                          fix=f"write a function in {file}, and name that")  # fmt: skip
    _assert_callable_with(found, text, parameters)
    return found  # type: ignore[no-any-return]


@cache
def _module(path: Path, _written: int) -> ModuleType:
    """The file as a module, once for each time it was written: DATA and PREPROCESS may share one."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end, so that a sibling never hides a library
    name = f"mlconv_user_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise raised(f"importing `{path.name}`", error, path) from error
    return module


def _assert_callable_with(function: Callable[..., Any], text: str, parameters: int) -> None:
    """Raises: RefNotFound: It takes another number of arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin: its call tells
        return
    try:
        signature.bind(*range(parameters))
    except TypeError as error:
        called = "without arguments" if parameters == 0 else "with one argument, a PIL picture"
        raise RefNotFound(
            f"`{text}` is `{text.rpartition(':')[2]}{signature}`, and it is called {called}",
            why=str(error),
            fix="give its other parameters default values, or name a function that takes no more",
        ) from error


def raised(what: str, error: BaseException, path: Path) -> UserCodeRaised:
    """What to say where the user's code raised, with its innermost line in that file."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    place = f" (at {path.name}:{own[-1].lineno} `{(own[-1].line or '').strip()}`)" if own else ""
    text = str(error).strip()
    return UserCodeRaised(
        f"{what} raised {type(error).__name__}{f': {text[:400]}' if text else ''}",
        why=f"it happened there{place}" if place else None,
        fix=f"mend it in {path.name}; python {path.name} runs it without mlconv",
    )
