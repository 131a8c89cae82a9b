"""Where an artifact goes, and how it gets there whole.

Everything is written in a folder beside the output whose name begins with a dot, flushed, and renamed into
place: a reader sees the old file or the new one. A killed run leaves only that folder, and the next run in the
same place removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlconv.errors import OutputExists, OutputIsSource, OutputUnwritable
from mlconv.formats import ModelFile

RECORD_SUFFIX = ".mlconv.json"
_PREFIX = ".mlconv-"
_LOCK = "lock"


def default_name(source: ModelFile, suffix: str, opset: int | None = None) -> str:
    """The output's name where the user gave none: the source's stem and the target's suffix.

    A numbered SavedModel folder takes its parent's name; ONNX from ONNX says its opset.
    """
    if source.path is None:
        stem = source.ref.partition(":")[0].rpartition(".")[2]
    elif source.path.name.isdigit() and source.format == "saved-model":
        stem = source.path.resolve().parent.name
    else:
        stem = source.path.resolve().name if source.path.is_dir() else source.path.stem
    if source.format == "onnx" and suffix == ".onnx":
        return f"{stem}.opset{opset}{suffix}"
    return stem + suffix


def record_path(output: Path) -> Path:
    return output.with_name(output.name + RECORD_SUFFIX)


def assert_free(output: Path, source: ModelFile, *, force: bool) -> None:
    """Refuse an output that must not be written.

    Raises:
        OutputIsSource: It is the source, or lies within it; not even `--force` allows that.
        OutputExists: Something is there that is not this source's own untouched artifact.
        OutputUnwritable: The folder is missing or cannot be written.
    """
    folder = output.parent
    if not folder.is_dir():
        raise OutputUnwritable(
            f"the folder of `{output}` does not exist", fix=f"mkdir -p {folder}, or another -o"
        )
    if not os.access(folder, os.W_OK):
        raise OutputUnwritable(f"the folder `{folder}` cannot be written", fix="-o in a folder of your own")
    if source.path is not None and source.path.exists():
        own, target = source.path.resolve(), output.resolve()
        if own == target or (source.path.is_dir() and own in target.parents):
            raise OutputIsSource(f"`{output}` is the source, which is never written to", fix="another -o")
    if output.is_dir():
        raise OutputExists(f"`{output}` is a folder", fix=f"-o {output / 'NAME.onnx'}")
    if os.path.lexists(output) and not force and not _is_own(output, source):
        raise OutputExists(f"`{output}` exists", fix="--force to replace it, or -o with another name")


def _is_own(output: Path, source: ModelFile) -> bool:
    """Whether the record says that this file was made from this source, and the file is as it was then."""
    try:
        record = json.loads(record_path(output).read_text())
        made, origin = record["artifact"], record["source"]
        same = origin["ref"] == source.ref or (
            source.path is not None and origin["sha256"] == digest(source.path)
        )
        return bool(same) and made["sha256"] == digest(output)
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    """Hold the folder's lock: the kernel lets go of it when this process ends, however it ends."""
    with (folder / _LOCK).open("w") as lock:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_stale(parent: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def put(made: Sequence[Path], output: Path, record: dict[str, Any]) -> tuple[Path, ...]:
    """Move an artifact and its record into place.

    Args:
        made: The artifact first, then files that it refers to by name (external data). Those are named by
            their content, so they never replace a file that an older artifact still needs.
        record: What ``RECORD_SUFFIX`` beside the output will hold.

    Returns:
        The files as they are now: the artifact, its companions.

    Raises:
        OutputUnwritable: A rename failed; the old artifact stands.
    """
    record_file = record_path(output)
    new_record = made[0].with_name("record.json")
    new_record.write_text(json.dumps(record, indent=2) + "\n")
    old = _companions(record_file, output)
    companions = [output.with_name(path.name) for path in made[1:]]
    try:
        for path in (*made, new_record):
            _flush(path)
        for path, place in zip(made[1:], companions, strict=True):
            path.replace(place)
        record_file.unlink(missing_ok=True)  # a record never describes another file than the one beside it
        made[0].replace(output)
        new_record.replace(record_file)
        _flush(output.parent)
    except OSError as error:
        raise OutputUnwritable(
            f"`{output}` cannot be written", why=str(error), fix="-o in a folder of your own"
        ) from error
    for path in set(old) - set(companions):
        path.unlink(missing_ok=True)
    return (output, *companions)


def _companions(record_file: Path, output: Path) -> list[Path]:
    """Files of the artifact that is about to be replaced, as its own record names them."""
    try:
        names = json.loads(record_file.read_text())["artifact"].get("files", [])
        return [output.with_name(name) for name in names if name != output.name and Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _flush(path: Path) -> None:
    """Ask the file system to keep what was written, before a rename makes it visible."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its sorted ``path:sha256`` lines."""
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        lines = [f"{item.relative_to(path).as_posix()}:{digest(item)}" for item in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size
