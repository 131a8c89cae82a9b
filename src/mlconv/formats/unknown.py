"""What to say of a file of no format that mlconv knows."""

from __future__ import annotations

import codecs
from pathlib import Path

from mlconv.errors import UnknownFormat

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
        return UnknownFormat(
            f"`{path}` is Python, and which name in it makes the model is not said",
            fix=f"name it: {path}:make, where make is a module, a class or a function",
        )
    return UnknownFormat(
        f"`{path}` is of no format that mlconv knows",
        why=f"it {_looks_like(head)}",
        fix="mlconv formats names those it knows",
    )


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
