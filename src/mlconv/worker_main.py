"""The worker's side: one job, read as a line of JSON from stdin; one reply, a file put in place whole.

Needs the standard library alone, so that it runs under another environment's interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mlconv import progress
from mlconv.errors import MlconvError

PROTOCOL = 1
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(preload: Sequence[str]) -> None:
    """Take a job from stdin, do it, leave the reply.

    Args:
        preload: Modules to import while no job is there yet; those that are missing are passed over.
    """
    _end_with_parent()
    progress.send_to(_claim_stdout())
    for name in preload:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_end_at_eof, daemon=True).start()
    job = json.loads(line)
    # A user's module may lie beside the model: no __pycache__ is left there.
    sys.dont_write_bytecode = True
    reply = _reply(job)
    target = Path(job["reply"])
    beside = target.with_suffix(".part")
    beside.write_text(json.dumps(reply))
    beside.replace(target)
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks hang or crash in their exit handlers; the reply is complete, so nothing is lost.
    os._exit(0)


def _reply(job: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        if job["protocol"] != PROTOCOL:
            raise RuntimeError(f"protocol {job['protocol']} was asked of a worker that speaks {PROTOCOL}")
        module, _, function = job["run"].partition(":")
        result = getattr(importlib.import_module(module), function)(job["payload"])
        return {"ok": True, "result": result, "seconds": time.perf_counter() - start}
    except MlconvError as error:
        traceback.print_exc()
        return {"ok": False, "error": error.to_json(), "traceback": traceback.format_exc()}
    except Exception as error:  # noqa: BLE001  # the parent tells what it means
        traceback.print_exc()
        kind = MemoryError if isinstance(error, MemoryError) else type(error)  # numpy has one of its own
        told = {"type": kind.__name__, "text": str(error)}
        return {"ok": False, "exception": told, "traceback": traceback.format_exc()}


def _claim_stdout() -> int:
    """Keep the pipe to the parent for events alone: what frameworks print goes where stderr goes, to the log."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return pipe


def _end_at_eof() -> None:
    """The parent holds the other end of stdin: its death is an end of file, on every platform."""
    while sys.stdin.buffer.read(4096):
        pass
    if _leads_its_group():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _leads_its_group() -> bool:
    return hasattr(os, "getpgrp") and os.getpgrp() == os.getpid()


def _end_with_parent() -> None:
    """On Linux the kernel kills this process with its parent, even inside a long native call.

    That signal reaches this process alone. So a guard in the same group waits for its end, and ends what it started.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        worker = os.getpid()
        if _leads_its_group() and os.fork() == 0:
            _guard(worker, prctl)


def _guard(worker: int, prctl: Callable[[int, int], object]) -> NoReturn:
    """Wait until the worker has ended, however it did, and kill its group, this process with it."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        for pipe in (0, 1, 2):
            os.close(pipe)
        if os.getppid() == worker:  # else it had ended before the kernel was asked to tell
            signal.sigwait({signal.SIGTERM})
        os.killpg(worker, signal.SIGKILL)
    finally:
        os._exit(0)
