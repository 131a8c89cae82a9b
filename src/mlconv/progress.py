"""How a job in a worker tells what it is doing; silent outside a worker."""

from __future__ import annotations

import json
import os

_pipe: int | None = None


def send_to(descriptor: int) -> None:
    """Write events to this file descriptor from now on, one JSON object a line."""
    global _pipe  # noqa: PLW0603  # one pipe a process, as there is one stdout
    _pipe = descriptor


def report(text: str) -> None:
    """Tell one step, in words for the user: ``exporting with the torch dynamo exporter``."""
    if _pipe is not None:
        try:
            os.write(_pipe, (json.dumps({"event": "progress", "text": text}) + "\n").encode())
        except OSError:  # the parent has gone; the worker ends by itself
            return
