"""Runs a job in a fresh interpreter, under a time and a memory limit.

The job crosses as a line of JSON, arrays as files in a scratch folder, the result as a reply file. What
frameworks print goes to a log. A crash of native code ends the worker and not the command.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from mlconv.errors import ConversionError, Crashed, MlconvError, OutOfMemory, TimedOut, UnusableInterpreter
from mlconv.paths import logs_folder

_BOOT = """
import importlib.util, sys
where = sys.argv[1]
spec = importlib.util.spec_from_file_location("mlconv", where + "/__init__.py", submodule_search_locations=[where])
module = importlib.util.module_from_spec(spec)
sys.modules["mlconv"] = module
spec.loader.exec_module(module)
from mlconv import worker_main
worker_main.main(sys.argv[2:])
"""
_POLL_S = 0.05
_MEMORY_POLL_S = 0.2
_KEPT_LOGS = 20
Listener = Callable[[str], None]


def silent(_: str) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may take.

    Attributes:
        seconds: Wall time from the moment the job is handed over.
        bytes: Resident memory of the worker and its children; None: 80 % of the machine's.
        deadline: Where several jobs share the seconds: the moment of ``time.monotonic`` at which they are over.
    """

    seconds: float = 1800.0
    bytes: int | None = None
    deadline: float | None = None

    def from_now(self) -> Limits:
        """The same for all jobs that are run from now on together."""
        return replace(self, deadline=time.monotonic() + self.seconds)


class JobRaised(Exception):
    """A job raised something that is no mlconv error; the caller knows what that means.

    Attributes:
        type: Name of the exception's class.
        text: Its message, in the framework's own words.
        traceback: As Python prints it.
        log: Where all that the worker printed stands; None where it could not be kept.
    """

    def __init__(self, type_: str, text: str, traceback: str, log: str | None) -> None:
        super().__init__(f"{type_}: {text}")
        self.type, self.text, self.traceback, self.log = type_, text, traceback, log

    @property
    def line(self) -> str:
        """The first line of the message, at most 300 characters."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return f"{self.type}: {lines[0][:300]}" if lines else self.type


class Worker:
    """A started interpreter that waits for one job. Use ``start``."""

    def __init__(self, process: subprocess.Popen[bytes], scratch: Path, limits: Limits) -> None:
        self._process, self._scratch, self._limits = process, scratch, limits
        self._listener: Listener = silent
        self._ears = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        self._ears.start()

    def run(self, function: str, payload: Any, listener: Listener | None = None) -> Any:
        """Hand the job over and wait for its result.

        Args:
            function: ``package.module:function``; it takes the payload and returns what JSON can hold.
            payload: Anything that JSON can hold.
            listener: Called with each step that the job reports.

        Raises:
            MlconvError: As the job raised it.
            JobRaised: The job raised anything else.
            TimedOut, OutOfMemory, Crashed: The worker ended without a reply.
        """
        if listener:
            self._listener = listener
        reply = self._scratch / "reply.json"
        job = {"protocol": 1, "run": function, "payload": payload, "reply": str(reply)}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died while it started: the exit status tells
            self._process.stdin.write((json.dumps(job) + "\n").encode())
            self._process.stdin.flush()
        self._wait()
        return self._result(reply)

    def _wait(self) -> None:
        memory = _MemoryWatch(self._process.pid, self._limits.bytes)
        limits = self._limits if self._limits.deadline is not None else self._limits.from_now()
        assert limits.deadline is not None
        while self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_S)
                break
            if time.monotonic() > limits.deadline:
                self.kill()
                raise TimedOut(
                    f"no result within the time limit of {self._limits.seconds:g} s",
                    fix=f"--timeout {2 * self._limits.seconds:g}, or a smaller model", log=self.keep_log(),
                )  # fmt: skip
            if memory.exceeded():
                self.kill()
                raise OutOfMemory(
                    f"the worker took more than its memory limit of {memory.limit / 2**30:.1f} GiB",
                    fix=f"--memory {2 * memory.limit / 2**30:.0f}, or a machine with more memory", log=self.keep_log(),
                )  # fmt: skip

    def _result(self, reply: Path) -> Any:
        if not reply.exists():
            raise self._death()
        answer = json.loads(reply.read_text())
        if answer["ok"]:
            return answer["result"]
        if "error" in answer:
            error = MlconvError.from_json(answer["error"])
            # a wrong call or a broken file is told in full; the log is for what a framework had to say
            error.log = self.keep_log() if error.exit >= ConversionError.exit else None
            error.__notes__ = [answer["traceback"]]
            raise error
        log = self.keep_log()
        told = answer["exception"]
        if told["type"] == "MemoryError":
            raise OutOfMemory("the worker ran out of memory", why=told["text"] or None, log=log,
                              fix="a machine with more memory, or a smaller model")  # fmt: skip
        raise JobRaised(told["type"], told["text"], answer["traceback"], log)

    def _death(self) -> MlconvError:
        code = self._process.returncode
        lines = self._last_lines()
        why = f"its last words: {lines}" if lines else None
        log = self.keep_log()
        if code == -signal.SIGKILL:
            return OutOfMemory("the worker was killed by SIGKILL, most often for lack of memory", why=why, log=log,
                               fix="a machine with more memory, or --memory to stop earlier")  # fmt: skip
        if code < 0:
            name = signal.Signals(-code).name
            return Crashed(f"the worker was killed by {name}: native code crashed", why=why, log=log,
                           fix="read the log; report the crash to the framework, or try another route with --via")  # fmt: skip
        return Crashed(f"the worker ended with exit status {code} and left no reply", why=why, log=log,
                       fix="read the log: something in the model or its module ended the process")  # fmt: skip

    def _last_lines(self) -> str:
        try:
            text = (self._scratch / "log.txt").read_text(errors="replace")
        except OSError:
            return ""
        return " / ".join(line.strip()[:160] for line in text.splitlines()[-3:] if line.strip())

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            with contextlib.suppress(ValueError):
                self._listener(json.loads(line)["text"])

    def keep_log(self) -> str | None:
        """Copy the log to where it outlives the scratch folder, and return that path.

        None where that cannot be done: a cache that cannot be written hides no error.
        """
        try:
            folder = logs_folder()
            folder.mkdir(parents=True, exist_ok=True)
            kept = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{self._process.pid}.log"
            shutil.copyfile(self._scratch / "log.txt", kept)
        except (OSError, RuntimeError):  # RuntimeError: there is no home folder
            return None
        for old in sorted(folder.glob("*.log"))[:-_KEPT_LOGS]:
            with contextlib.suppress(OSError):
                old.unlink(missing_ok=True)
        return str(kept)

    def kill(self) -> None:
        """End the worker and everything that it started, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, with its pipes."""
        self.kill()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._ears.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def start(
    limits: Limits | None = None, *, python: str | None = None, preload: Sequence[str] = ()
) -> Iterator[Worker]:
    """Start an interpreter that waits for a job; it is gone when the block is left.

    Args:
        limits: Time and memory of the job.
        python: Another interpreter; it needs numpy and whatever the job imports, not mlconv.
        preload: Modules to import at once, while the caller still prepares the job.

    Raises:
        UnusableInterpreter: ``python`` cannot be started.
    """
    scratch = Path(tempfile.mkdtemp(prefix="mlconv-worker-"))
    package = str(Path(__file__).parent)
    command = [python or sys.executable, "-P", "-c", _BOOT, package, *preload]
    try:
        with (scratch / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_environment(scratch),
                start_new_session=True,  # Ctrl-C reaches the command alone, which then ends the worker
            )  # fmt: skip
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise UnusableInterpreter(
            f"`{python}` cannot be started as a Python interpreter", why=str(error),
            fix="let MLCONV_PYTHON_<NAME> name the `python` of an environment, or unset it",
        ) from error  # fmt: skip
    worker = Worker(process, scratch, limits or Limits())
    try:
        yield worker
    finally:
        worker.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _environment(scratch: Path) -> dict[str, str]:
    """The caller's environment, with a fixed hash seed (sets are iterated alike) and hubs kept offline.

    Temporary files go into ``scratch``, which is removed however the worker ends.
    """
    defaults = {"PYTHONHASHSEED": "0", "TF_CPP_MIN_LOG_LEVEL": "2", "HF_HUB_OFFLINE": "1"}
    return {**defaults, **os.environ, "PYTHONHASHSEED": "0", "TMPDIR": str(scratch)}


class _MemoryWatch:
    """Resident memory of a process and its children against a limit."""

    def __init__(self, pid: int, limit: int | None) -> None:
        import psutil

        self.limit = limit if limit is not None else int(0.8 * _machine_bytes())
        self._next = 0.0
        self._process: psutil.Process | None = None
        self._gone = (psutil.NoSuchProcess, psutil.AccessDenied)
        with contextlib.suppress(*self._gone):
            self._process = psutil.Process(pid)

    def exceeded(self) -> bool:
        """Whether the limit is passed; looks at most every 0.2 s, since walking the children reads all of /proc."""
        if self._process is None or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _MEMORY_POLL_S
        total = 0
        with contextlib.suppress(*self._gone):
            for process in [self._process, *self._process.children(recursive=True)]:
                total += process.memory_info().rss
        return total > self.limit


def _machine_bytes() -> int:
    """The machine's memory, or the control group's limit where that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total
