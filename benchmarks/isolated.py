"""A function in a process of its own: runtimes abort on some models, and that is an outcome."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
SECONDS = 900


class Failed(Exception):
    """Why there is no result, on one line."""


def isolated(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a function of a module in a fresh process; arguments and result are pickled.

    Raises:
        Failed: It raised, died, or took longer than ``SECONDS``.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            raise Failed(f"not done after {SECONDS} s")
        ok, result = receiver.recv()
    except EOFError:
        process.join()
        raise Failed(f"the process died, exit {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if not ok:
        raise Failed(result)
    answer: R = result
    return answer


def _answer(
    sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # LiteRT tells of its delegates there
    try:
        sender.send((True, function(*args, **kwargs)))
    except Exception as error:  # noqa: BLE001  whatever a runtime raises is told
        sender.send((False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
