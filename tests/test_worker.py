"""A job in a fresh interpreter: results, errors, limits, crashes, and the end of the parent."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlconv import worker
from mlconv.errors import ConverterFailed, Corrupt, Crashed, OutOfMemory, TimedOut, UnusableInterpreter

JOBS = """
import ctypes, os, sys, time
from mlconv import progress
from mlconv.errors import ConverterFailed, Corrupt

def echo(payload):
    print("to stdout"); sys.stderr.write("to stderr\\n")
    progress.report("half way")
    return {"given": payload, "modules": sorted(sys.modules), "pid": os.getpid()}

def refuse(payload):
    raise Corrupt("the file is cut off", why="9 bytes of 12", fix="copy it again")

def fail(payload):
    raise ConverterFailed("the exporter gave up", fix="another --opset")

def raise_value_error(payload):
    raise ValueError("first line\\nsecond line")

def abort(payload):
    os.abort()

def fill_and_abort(payload):
    import tempfile
    folder = tempfile.mkdtemp()
    open(payload, "w").write(folder)
    os.abort()

def leave(payload):
    print("last words", flush=True)
    os._exit(3)

def segfault(payload):
    ctypes.string_at(0)

def hang(payload):
    open(payload, "w").write(str(os.getpid()))
    time.sleep(300)

def hang_with_child(payload):
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    open(payload, "w").write(str(child.pid))
    time.sleep(300)

def leave_child(payload):
    import subprocess
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"]).pid

def nap(payload):
    time.sleep(payload)

def ask_for_too_much(payload):
    import numpy
    numpy.ones((1 << 40, 1 << 10))

def eat(payload):
    hog = [b"x" * (64 << 20) for _ in range(32)]
    time.sleep(300)
"""


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("MLCONV_CACHE_DIR", str(tmp_path / "cache"))


def run(job: str, payload: Any = None, limits: worker.Limits | None = None, **how: Any) -> Any:
    with worker.start(limits, **how) as started:
        return started.run(f"worker_jobs:{job}", payload)


def gone(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_job_returns_its_result_and_tells_its_steps() -> None:
    steps: list[str] = []
    with worker.start() as started:
        told = started.run("worker_jobs:echo", {"x": [1, "two", None]}, steps.append)
    assert told["given"] == {"x": [1, "two", None]}
    assert steps == ["half way"]
    assert gone(told["pid"])


def test_a_worker_starts_with_the_standard_library_alone() -> None:
    loaded = {name.partition(".")[0] for name in run("echo")["modules"]}
    assert not loaded & {"numpy", "onnx", "typer", "psutil", "torch", "tensorflow"}


def test_modules_named_beforehand_are_there_and_missing_ones_do_no_harm() -> None:
    assert "fractions" in run("echo", preload=("fractions", "no_such_module"))["modules"]


def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(Corrupt, match="the file is cut off") as caught:
        run("refuse")
    assert (caught.value.why, caught.value.fix) == ("9 bytes of 12", "copy it again")
    assert caught.value.log is None


def test_a_failed_conversion_keeps_its_log() -> None:
    with pytest.raises(ConverterFailed, match="gave up") as caught:
        run("fail")
    assert caught.value.log is not None
    assert "ConverterFailed" in Path(caught.value.log).read_text()


def test_another_exception_keeps_its_type_and_its_first_line() -> None:
    with pytest.raises(worker.JobRaised) as caught:
        run("raise_value_error")
    assert caught.value.line == "ValueError: first line"
    assert "raise_value_error" in caught.value.traceback


def test_an_abort_ends_the_job_and_names_the_signal() -> None:
    with pytest.raises(Crashed, match="killed by SIGABRT") as caught:
        run("abort")
    assert caught.value.exit == 7


def test_what_a_crashed_job_left_in_temporary_folders_is_removed(tmp_path: Path) -> None:
    with pytest.raises(Crashed):
        run("fill_and_abort", str(tmp_path / "told"))
    assert not Path((tmp_path / "told").read_text()).exists()


def test_a_segmentation_fault_ends_the_job_and_names_the_signal() -> None:
    with pytest.raises(Crashed, match="SIGSEGV"):
        run("segfault")


def test_an_exit_without_a_reply_tells_the_status_and_the_last_words() -> None:
    with pytest.raises(Crashed, match="exit status 3") as caught:
        run("leave")
    assert caught.value.why is not None
    assert "last words" in caught.value.why


def test_the_time_limit_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(TimedOut, match="time limit of 1 s") as caught:
        run("hang", str(tmp_path / "pid"), worker.Limits(seconds=1))
    assert caught.value.retry
    assert gone(int((tmp_path / "pid").read_text()))


def test_jobs_that_share_a_deadline_share_the_time() -> None:
    limits = worker.Limits(seconds=2).from_now()
    run("nap", 1.2, limits)
    with pytest.raises(TimedOut, match="time limit of 2 s"):
        run("nap", 1.2, limits)


def test_the_memory_limit_ends_the_job() -> None:
    with pytest.raises(OutOfMemory, match=r"memory limit of 0\.5 GiB"):
        run("eat", limits=worker.Limits(bytes=512 << 20))


@pytest.mark.framework("numpy")
def test_an_array_that_finds_no_memory_is_told_as_such() -> None:
    with pytest.raises(OutOfMemory, match="ran out of memory") as raised:
        run("ask_for_too_much")
    assert "Unable to allocate" in str(raised.value.why)


def test_something_that_is_no_interpreter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableInterpreter, match="cannot be started"):
        run("echo", python=str(tmp_path / "python"))


def test_logs_beyond_the_last_twenty_are_removed(tmp_path: Path) -> None:
    logs = tmp_path / "cache" / "logs"
    logs.mkdir(parents=True)
    for number in range(30):
        (logs / f"20000101-000000-{number:02}.log").touch()
    with pytest.raises(ConverterFailed):
        run("fail")
    kept = sorted(path.name for path in logs.iterdir())
    assert len(kept) == 20
    assert not kept[-1].startswith("2000")


@pytest.mark.parametrize("spoilt", ["a file", "read-only", "log gone"])
def test_a_cache_that_cannot_be_written_hides_no_error(
    spoilt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spoilt == "a file":
        (tmp_path / "cache").touch()
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        owner, name = (Path, "mkdir") if spoilt == "read-only" else (shutil, "copyfile")
        monkeypatch.setattr(owner, name, refuse)
    with pytest.raises(ConverterFailed, match="gave up") as caught:
        run("fail")
    assert caught.value.log is None
    with pytest.raises(worker.JobRaised) as raised:
        run("raise_value_error")
    assert raised.value.log is None


@pytest.mark.skipif(sys.platform != "linux", reason="the guard is Linux's")
def test_what_a_job_started_ends_with_it() -> None:
    assert gone(run("leave_child"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("job", ["hang", "hang_with_child"])
def test_the_worker_and_its_children_end_within_five_seconds_of_its_parent_being_killed(
    job: str, tmp_path: Path
) -> None:
    code = f"from mlconv import worker\nwith worker.start() as w: w.run('worker_jobs:{job}', {str(tmp_path / 'pid')!r})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(int((tmp_path / "pid").read_text()))
