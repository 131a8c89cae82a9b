"""What a command says and where: results to stdout, everything else to stderr, one JSON document with `--json`.

Texts quote names out of model files: whatever is printed here goes through ``mlconv.visible`` first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any, Protocol, Self

from mlconv.errors import MlconvError
from mlconv.visible import hanging, one_line, visible


class Result(Protocol):
    """What a command computed: a value with two renderings."""

    @property
    def ok(self) -> bool: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class Session:
    """The global options of one call."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False

    def document(self, value: dict[str, Any]) -> None:
        """The one JSON document on stdout."""
        print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))

    def result(self, text: str) -> None:
        """A command's result alone, on stdout."""
        print(visible(text))

    def path(self, path: str) -> None:
        """A result that a script reads: the path of a file, as the user called it."""
        print(path)

    def note(self, text: str) -> None:
        """Summary, warnings, everything that is no result: stderr, unless `--quiet` or `--json`."""
        self._say(visible(text))

    def _say(self, painted: str) -> None:
        if not self.quiet and not self.json:
            print(painted, file=sys.stderr)

    def warnings(self, warnings: tuple[str, ...] | list[str]) -> None:
        for warning in warnings:
            self._say(f"{self._paint('warning', '33')}: {hanging(warning)}")

    def error(self, error: MlconvError) -> None:
        """The one shape of every failure. `--quiet` does not silence it."""
        lines = [f"{self._paint(f'error[{error.id}]', '1;31')}: {hanging(error.what)}"]
        lines += [f"  why: {hanging(error.why)}"] if error.why else []
        lines += [f"{self._paint('hint', '36')}: {hanging(error.fix)}"]
        lines += [f"log: {hanging(error.log)}"] if error.log else []
        print("\n".join(lines), file=sys.stderr)
        if self.debug:
            self.traceback(error)

    def traceback(self, error: BaseException) -> None:
        """Where it was raised: in this process, and in the worker where it came from there."""
        print(visible("".join(traceback.format_exception(error))), file=sys.stderr)

    def _paint(self, text: str, code: str) -> str:
        wanted = sys.stderr.isatty() or bool(os.environ.get("FORCE_COLOR"))
        return (
            f"\x1b[{code}m{text}\x1b[0m"
            if wanted and not self.no_color and not os.environ.get("NO_COLOR")
            else text
        )

    def progress(self) -> Progress:
        return Progress(live=sys.stderr.isatty(), silent=self.quiet or self.json)


class Progress:
    """The step that long work is at: one line that is redrawn on a terminal, a plain line each elsewhere.

    A context manager; callable with each step's text.
    """

    def __init__(self, *, live: bool, silent: bool) -> None:
        self._live, self._silent = live and not silent, silent
        self._text, self._since = "", time.monotonic()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, text: str) -> None:
        text = self._text = one_line(text)
        if self._silent:
            return
        if not self._live:
            print(f"  {text}", file=sys.stderr, flush=True)
        elif self._thread is None:
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()

    def _draw(self) -> None:
        while not self._done.wait(0.1):
            sys.stderr.write(f"\r\x1b[2K  {self._text} ({time.monotonic() - self._since:.0f} s)")
            sys.stderr.flush()
