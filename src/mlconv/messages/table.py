"""A table of messages, and looking one up in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlconv.errors import MlconvError
from mlconv.tensors import TensorSpec, show_shape

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Scene:
    """What was going on when a framework raised.

    Attributes:
        ref: The model, as the user calls it.
        runner: What ran it; empty where it was loaded or converted.
        inputs: What it was given, or what it says that it takes.
        is_asked: Whether these come from `--input`.
        place: The line of the user's own code that raised, where there is one.
    """

    ref: str
    runner: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    is_asked: bool = False
    place: str | None = None

    @property
    def given(self) -> str:
        """The inputs in words: ``ids` 1,16 int64``."""
        shown = [
            f"`{spec.name}` {show_shape(spec.shape)} {spec.dtype}".replace("  ", " ") for spec in self.inputs
        ]
        return ", ".join(shown) or "no inputs"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a framework.

    Attributes:
        pattern: A regular expression that finds it in the text of the exception.
        tell: What it means, of the match; None where it turns out to be something else. Without a ``why`` the
            framework's own line becomes that.
        untried: Why no test triggers it; empty where one does.
    """

    pattern: str
    tell: Callable[[re.Match[str], Scene], MlconvError | None]
    untried: str = ""


def recognised(error: BaseException | str, scene: Scene, *tables: Sequence[Message]) -> MlconvError | None:
    """What a framework's error means, by the first line of the first table that knows it; None where none does.

    Args:
        error: The exception, whose causes are read too, or the text of one.
    """
    text = error if isinstance(error, str) else _chain(error)
    for message in (message for table in tables for message in table):
        match = re.search(message.pattern, text)
        found = message.tell(match, scene) if match else None
        if match and found:
            found.why = found.why or told(text, match, scene.place)
            return found
    return None


def told(text: str, match: re.Match[str], place: str | None = None) -> str:
    """The line of a text that a match begins in, with the place in the user's code."""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    line = " ".join(text[start : end if end >= 0 else None].split())
    if len(line) > _LONGEST:
        first = max(0, min(match.start() - start, len(line) - _LONGEST))
        line = line[first : first + _LONGEST].strip()
    return f"{line} (at {place})" if place else line


def _chain(error: BaseException) -> str:
    """The messages of an exception and of its causes, each behind the name of its class."""
    lines: list[str] = []
    link: BaseException | None = error
    while link is not None and len(lines) < 10:
        lines.append(f"{type(link).__name__}: {link}")
        link = link.__cause__
    return "\n".join(lines)
