"""A REF: a module named by the Python that makes it, ``net.py:make`` or ``timm:create_model("resnet18")``."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlconv.errors import BadUsage

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
# a module of one letter is more likely a Windows drive: C:model
_REF = re.compile(rf"(?P<place>.+?\.py|(?![A-Za-z]:){_NAME}):(?P<name>{_NAME})(?P<call>\(.*\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Ref:
    """What a REF names. Exactly one of ``module`` and ``file`` is set.

    Attributes:
        name: An instance, a class or a function; dotted where it stands in another name.
        args: Literals, in order.
        kwargs: Literals, by name.
        called: Whether the REF has parentheses, ``net.py:make()`` too.
    """

    module: str | None
    file: Path | None
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    called: bool = False


def is_ref(text: str) -> bool:
    """Whether a text has the form of a REF. A path that exists is never one: ask that first."""
    return _REF.fullmatch(text) is not None


def parse_ref(text: str) -> Ref:
    """Read ``MODULE_OR_FILE:NAME[(literal arguments)]``; nothing is imported, and no file looked for.

    Raises:
        BadUsage: It is not of that form, or an argument is no literal.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise BadUsage(
            f"`{text}` is no REF", why="it is MODULE_OR_FILE:NAME", fix="write it like net.py:make"
        )
    place, name, call = match["place"], match["name"], match["call"]
    args, kwargs = _literals(call, text) if call else ((), {})
    if place.endswith(".py"):
        return Ref(None, Path(place), name, args, kwargs, called=bool(call))
    return Ref(place, None, name, args, kwargs, called=bool(call))


def _literals(call: str, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments between the parentheses, by ``ast.literal_eval``: nothing is evaluated."""
    try:
        node = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise TypeError("more than one call")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("`**` is no literal")
        args = tuple(ast.literal_eval(argument) for argument in node.args)
        return args, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadUsage(
            f"the arguments of `{text}` are not literals",
            why=f"numbers, text, True, None, lists, tuples and dictionaries are: {error}",
            fix="put the call into a function of a .py file, and name that: net.py:make",
        ) from error
