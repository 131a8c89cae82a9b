"""What to say of a file of no format that mlconv knows."""

from __future__ import annotations

import ast
import codecs
import re
from collections.abc import Mapping
from pathlib import Path

from mlconv.errors import UnknownFormat, listed
from mlconv.formats.refs import for_shell

_NETWORKS = frozenset({"Module", "Model", "Sequential", "LightningModule", "PreTrainedModel", "ModelMixin"})
_LFS = b"version https://git-lfs.github.com/spec/"


def format_of(path: Path, head: bytes) -> UnknownFormat:
    """The error for a file of no known format, by its first bytes."""
    if head.startswith(_LFS):
        return UnknownFormat(
            f"`{path}` is a git-lfs pointer, not the file itself", why="git fetched the text that stands for a large file",
            fix="git lfs pull",
        )  # fmt: skip
    if _is_text_graph(head):
        return UnknownFormat(
            f"`{path}` is a TensorFlow graph in text form", why="mlconv reads the binary form alone",
            fix="in TensorFlow: tf.io.write_graph(graph_def, '.', 'graph.pb', as_text=False)",
        )  # fmt: skip
    if path.suffix == ".py":
        return _python(path)
    return UnknownFormat(
        f"`{path}` is of no format that mlconv knows",
        why=f"it {_looks_like(head)}",
        fix="mlconv formats names those it knows",
    )


def _python(path: Path) -> UnknownFormat:
    """A file of code without a NAME: the names in it that may make a model, read and not run."""
    names = _makers(path)
    others = f", or {listed([f'{path}:{name}' for name in names[1:]], 4)}" if names[1:] else ""
    return UnknownFormat(
        f"`{path}` is Python, and which name in it makes the model is not said",
        why=None if names else "no class or function stands in it at the top",
        fix=f"name it: {for_shell(f'{path}:{names[0]}')}{others}"
        if names
        else f"add a function that returns the model, `def make():`, and name it: {for_shell(f'{path}:make')}",
    )


def _makers(path: Path) -> list[str]:
    """Public classes and functions at the top of a file, the likeliest to make a model first; none where it does not parse."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            found[node.name] = _unlikely(node, found)
    return sorted(found, key=lambda name: found[name])


def _unlikely(node: ast.ClassDef | ast.FunctionDef, ranks: Mapping[str, int]) -> int:
    """How far from a model's maker a name is: 0 for `make` and its like, then networks by their base class, then the rest."""
    if isinstance(node, ast.FunctionDef):
        return 0 if re.match(r"(make|build|create|get|load)(_|$)|model$", node.name.lower()) else 2
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    if any(base in _NETWORKS or ranks.get(base) == 1 for base in bases):
        return 1
    return 3


def _looks_like(head: bytes) -> str:
    start = head.lstrip()[:64].lower()
    for magic, name in _KNOWN_STARTS.items():
        if head.startswith(magic):
            return f"looks like {name}"
    if not head.strip(b"\0"):
        return "begins with zeros alone"
    if start.startswith((b"<!doctype html", b"<html")):
        return "looks like an HTML page: was a login or an error page downloaded?"
    if start.startswith((b"<?xml", b"<")) and b">" in head:
        return "looks like XML"
    if start.startswith((b"{", b"[")):
        return "looks like JSON"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return f"begins with the bytes {head[:8].hex(' ')}"
    printable = sum(char.isprintable() or char in "\r\n\t" for char in text)
    if printable == len(text) and text.strip():
        return f"looks like text: {text.strip().splitlines()[0][:60]!r}"
    return f"begins with the bytes {head[:8].hex(' ')}"


_KNOWN_STARTS = {
    b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"BM": "a bitmap image", b"%PDF": "a PDF document",
    b"\x93NUMPY": "a numpy array", b"\x7fELF": "a program or library", b"MZ": "a Windows program", b"RIFF": "a WAV or WebP file",
    b"SQLite format 3": "an SQLite database", b"#!": "a script",
}  # fmt: skip


def _is_text_graph(head: bytes) -> bool:
    start = head.lstrip()
    return start.startswith(
        (b"node {", b"node{", b"saved_model_schema_version:", b"versions {", b"library {", b"meta_graphs {")
    )
