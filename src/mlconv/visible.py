"""Text that holds names out of model files, as a terminal may be given it: nothing in it moves a cursor or ends a line."""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 but for the tab and the line feed, DEL and C1: they start sequences that a terminal obeys."""
_ORDER = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
"""Marks that reorder what stands after them, and the two separators that some readers take for an end of line."""
_SURROGATES = "\ud800-\udfff"
_UNSEEN = re.compile(f"[{_CONTROLS}{_ORDER}{_SURROGATES}]")
_UNSEEN_IN_LINE = re.compile(f"[\t\n{_CONTROLS}{_ORDER}{_SURROGATES}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FREE_LINE = re.compile(r"\n(?! {4})")


def visible(text: str) -> str:
    """The text with control characters written out as Python writes them; its own lines and tabs stay."""
    return _UNSEEN.sub(_written, text)


def one_line(text: str) -> str:
    """The same of a text that is one line: what would end it is written out too."""
    return _UNSEEN_IN_LINE.sub(_written, text)


def hanging(text: str) -> str:
    """The same of a text behind a label such as ``hint:``; its further lines are indented, so that none looks like a label."""
    return _FREE_LINE.sub("\n    ", visible(text))


def _written(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
