"""A REF: a module named by the Python that makes it, ``net.py:make`` or ``timm:create_model("resnet18")``."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlconv.errors import BadUsage

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
# a module of one letter is more likely a Windows drive: C:model
_PLACE = rf"(?P<place>.+?\.py|(?![A-Za-z]:){_NAME})"
_REF = re.compile(rf"{_PLACE}:(?P<name>{_NAME})(?P<call>\(.*\))?", re.DOTALL)
_ALMOST = re.compile(rf"{_PLACE}::?(?P<name>{_NAME})?(?P<rest>.*)", re.DOTALL)
_WORDS = {"true": "True", "false": "False", "none": "None", "null": "None"}
_WORD = re.compile(r"[A-Za-z_][\w./:-]*")
_PYTHON = ("torch.", "nn.", "np.", "numpy.", "math.", "timm.", "torchvision.", "F.")
"""What is written with a dot and begins so is Python, and no text whose quotes were lost."""


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

    @property
    def place(self) -> str:
        """The module or the file, as it was written."""
        return str(self.file or self.module)

    def __str__(self) -> str:
        """The REF as one would write it. Text stands in double quotes: a shell needs single ones around it all."""
        arguments = [show_literal(value) for value in self.args]
        arguments += [f"{name}={show_literal(value)}" for name, value in self.kwargs.items()]
        call = f"({', '.join(arguments)})" if arguments or self.called else ""
        return f"{self.place}:{self.name}{call}"

    def with_arguments(self, **kwargs: Any) -> Ref:
        """The REF with these arguments beside, or in place of, its own of the same names."""
        return replace(self, kwargs={**self.kwargs, **kwargs}, called=True)


def is_ref(text: str) -> bool:
    """Whether a text is a REF, or was meant to be one. A path that exists is never one: ask that first."""
    if _REF.fullmatch(text):
        return True
    almost = _ALMOST.fullmatch(text)
    return almost is not None and (almost["place"].endswith(".py") or almost["rest"].startswith("("))


def parse_ref(text: str) -> Ref:
    """Read ``MODULE_OR_FILE:NAME[(literal arguments)]``; nothing is imported, and no file looked for.

    Raises:
        BadUsage: It is not of that form, or an argument is no literal.
    """
    match = _REF.fullmatch(text)
    if match is None:
        raise _malformed(text)
    place, name, call = match["place"], match["name"], match["call"]
    args, kwargs = _literals(place, name, call, text) if call else ((), {})
    if place.endswith(".py"):
        return Ref(None, Path(place), name, args, kwargs, called=bool(call))
    return Ref(place, None, name, args, kwargs, called=bool(call))


def show_literal(value: object) -> str:
    """A literal as Python writes it, with text in double quotes."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)  # JSON's escapes are Python's too
        case tuple():
            return f"({', '.join(map(show_literal, value))}{',' if len(value) == 1 else ''})"
        case list():
            return f"[{', '.join(map(show_literal, value))}]"
        case Mapping():
            return (
                "{"
                + ", ".join(f"{show_literal(key)}: {show_literal(item)}" for key, item in value.items())
                + "}"
            )
        case _:
            return repr(value)


def for_shell(text: str) -> str:
    """A word as it is typed in a shell: in quotes where it needs them."""
    return shlex.quote(text)


def _malformed(text: str) -> BadUsage:
    almost = _ALMOST.fullmatch(text)
    if almost is None:
        return BadUsage(
            f"`{text}` is no REF", why="it is MODULE_OR_FILE:NAME", fix="write it like net.py:make"
        )
    place, name, rest = almost["place"], almost["name"], almost["rest"].strip()
    if name is None:
        return BadUsage(
            f"`{text}` names no module, class or function of `{place}`",
            fix=f"name what makes the model: {place}:make",
        )
    if rest.startswith("("):
        return BadUsage(
            f"`{text}` breaks off within its arguments",
            why="a shell takes parentheses, blanks and quotes for itself unless the whole REF stands in single quotes",
            fix=for_shell(_completed(place, name, rest)),
        )
    if rest:
        return BadUsage(
            f"`{text}` is no REF", why=f"`{rest}` stands where it ends or its arguments begin",
            fix=f"name one module, class or function: {place}:{name}",
        )  # fmt: skip
    return BadUsage(f"`{text}` is no REF", why="one colon parts NAME from its file", fix=f"{place}:{name}")


def _completed(place: str, name: str, rest: str) -> str:
    """What was meant, as far as it can be told: the arguments that are whole, and the parenthesis that is lost."""
    for end in range(len(rest), 0, -1):
        call = rest[:end].rstrip().rstrip(",") + ")"
        try:
            args, kwargs = _read(call)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        made = Ref(place, None, name, args, kwargs, called=True)
        return str(made)
    return f"{place}:{name}(...)"


def _literals(place: str, name: str, call: str, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments between the parentheses, by ``ast.literal_eval``: nothing is evaluated."""
    try:
        return _read(call)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        meant = _with_quotes(call)
        if meant is not None:
            words, args, kwargs = meant
            raise BadUsage(
                f"the arguments of `{text}` are not literals: {', '.join(f'`{word}`' for word in words)}",
                why="text stands in double quotes, which a shell takes away unless single ones stand around the whole REF",
                fix=for_shell(str(Ref(place, None, name, args, kwargs, called=True))),
            ) from error
        raise BadUsage(
            f"the arguments of `{text}` are not literals",
            why=f"numbers, text, True, None, lists, tuples and dictionaries are; {_where(error, call)}",
            fix=f"put the call into a function of a .py file, and name that: {'net.py' if not place.endswith('.py') else place}:make",
        ) from error


def _read(call: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    node = ast.parse(f"f{call}", mode="eval").body
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise TypeError("more than one call")
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("`**` is no literal")
    args = tuple(ast.literal_eval(argument) for argument in node.args)
    return args, {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}


def _with_quotes(call: str) -> tuple[list[str], tuple[Any, ...], dict[str, Any]] | None:
    """The words among the arguments that would be literals as text, and the arguments so read; None where others remain."""
    source = f"f{call}"
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        return None
    words: list[str] = []

    def value(argument: ast.expr) -> Any:
        try:
            return ast.literal_eval(argument)
        except (ValueError, TypeError, MemoryError, RecursionError):
            word = ast.get_source_segment(source, argument) or ""
            if not _WORD.fullmatch(word) or word.startswith(_PYTHON):
                raise
            words.append(word)
            return ast.literal_eval(_WORDS[word]) if word in _WORDS else word

    try:
        args = tuple(value(argument) for argument in node.args)
        kwargs = {str(keyword.arg): value(keyword.value) for keyword in node.keywords}
    except (ValueError, TypeError, MemoryError, RecursionError):
        return None
    return words, args, kwargs


def _where(error: Exception, call: str) -> str:
    """What stands where a literal should, in the user's own words where Python's tell of its syntax tree."""
    if isinstance(error, SyntaxError):
        return f"Python reads `{call[:80]}` as no call: {error.msg}"
    return (
        f"`{call[:80]}` holds a name, a call or an operator" if "malformed node" in str(error) else str(error)
    )
