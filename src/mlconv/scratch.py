"""The folder in which an artifact is made: on its file system, under a name that begins with a dot.

A killed run leaves only that folder, and the next run in the same place removes it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mlconv.errors import OutputUnwritable

_PREFIX = ".mlconv-"
_LOCK = "lock"
_ABANDONED_S = 3600.0


@contextlib.contextmanager
def scratch_beside(output: Path) -> Iterator[Path]:
    """A folder on the output's file system, gone when the block is left. Those of killed runs are removed first.

    Raises:
        OutputUnwritable: It cannot be made.
    """
    _remove_stale(output.parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output.parent))
    except OSError as error:
        raise OutputUnwritable(
            f"`{output}` cannot be written", why=str(error), fix="-o in a folder of your own"
        ) from error
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: the kernel lets go of it when this process ends, however it ends.

    It is held before it has the name that ``_remove_stale`` looks for.
    """
    unnamed = folder / f"{_LOCK}.new"
    with unnamed.open("w") as lock:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(folder / _LOCK)
        yield


def _remove_stale(parent: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if not (folder / _LOCK).exists():
                _remove_abandoned(folder)
                continue
            with (folder / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """One whose maker was killed before it had its lock; a living one has it within moments."""
    is_empty = all(path.name == f"{_LOCK}.new" for path in folder.iterdir())
    if is_empty and time.time() - folder.stat().st_mtime > _ABANDONED_S:
        shutil.rmtree(folder, ignore_errors=True)
