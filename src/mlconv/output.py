"""Where an artifact goes, and how it gets there whole.

Everything is written in a folder beside the output (see ``mlconv.scratch``), flushed, and renamed into place: a
reader sees the old file or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv.errors import OutputExists, OutputIsSource, OutputUnwritable
from mlconv.formats import ModelFile

RECORD_SUFFIX = ".mlconv.json"


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


@dataclass(frozen=True, slots=True)
class Target:
    """Where an artifact is to go, and what must not be harmed on the way.

    Attributes:
        reads: Files and folders that the conversion reads, the source first; not even ``force`` allows to write there.
        identity: Names the source; an artifact whose record has it is the source's own.
        force: Whether something of another origin may be replaced.
        beside: Files of fixed names that the artifact brings along; external data is not among them, see ``put``.
        suffix: The format's.
    """

    path: Path
    reads: tuple[Path, ...]
    identity: str
    force: bool = False
    beside: tuple[Path, ...] = ()
    suffix: str = ".onnx"

    @property
    def record(self) -> Path:
        return record_path(self.path)


def assert_no_folder(path: Path, suffix: str) -> None:
    """Refuse an output that names a folder: an artifact is a file in one.

    Raises:
        OutputExists: It does.
    """
    if path.is_dir():
        raise OutputExists(f"`{path}` is a folder", fix=f"-o {shlex.quote(str(path / f'NAME{suffix}'))}")


def assert_free(target: Target) -> None:
    """Refuse an output that must not be written.

    Raises:
        OutputIsSource: It, its record or a file beside it is a file that is read, or lies within a folder that is.
        OutputExists: Something is there that is not this source's own untouched artifact, or not what came with it.
        OutputUnwritable: The folder is missing or cannot be written.
    """
    output = target.path
    folder = output.parent
    if not folder.is_dir():
        raise OutputUnwritable(
            f"the folder of `{output}` does not exist",
            fix=f"mkdir -p {shlex.quote(str(folder))}, or another -o",
        )
    if not os.access(folder, os.W_OK):
        raise OutputUnwritable(f"the folder `{folder}` cannot be written", fix="-o in a folder of your own")
    _assert_not_read((output, target.record, *target.beside), target.reads)
    assert_no_folder(output, target.suffix)
    for place, what in ((target.record, "the record"), *((path, "a part of it") for path in target.beside)):
        if place.is_dir():
            raise OutputExists(f"`{place}`, where {what} goes, is a folder", fix="-o with another name")
    for place in target.beside:
        if os.path.lexists(place) and not target.force and not _came_with_own(place, target):
            raise _exists(place)
    if os.path.lexists(output) and not target.force and not _is_own(target):
        raise _exists(output)
    if os.path.lexists(target.record) and not target.force and not _is_record(target.record):
        raise _exists(target.record)


def _exists(output: Path) -> OutputExists:
    return OutputExists(f"`{output}` exists", fix="--force to replace it, or -o with another name")


def _assert_not_read(outputs: Iterable[Path], reads: Sequence[Path]) -> None:
    for output, read in itertools.product(outputs, reads):
        own, place = read.resolve(), output.resolve()
        if own == place or (read.is_dir() and own in place.parents) or _is_same_file(output, read):
            raise OutputIsSource(
                f"`{output}` is the source, which is never written to"
                if read == reads[0]
                else f"`{output}` is read by this conversion, and what is read is never written to",
                fix="another -o",
            )


def _is_same_file(one: Path, other: Path) -> bool:
    """Also under two spellings, where the file system holds them for one."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _is_own(target: Target) -> bool:
    """Whether the record says that these files were made from this source, and they are as they were then."""
    try:
        record = json.loads(target.record.read_text())
        made: dict[str, str] = record["digests"]
        return (
            record["identity"] == target.identity
            and target.path.name in made
            and all(_is_untouched(target.path.with_name(name), sha256) for name, sha256 in made.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _came_with_own(place: Path, target: Target) -> bool:
    """Whether the record says that this file was written beside an artifact of this source, and it is as it was then."""
    try:
        record = json.loads(target.record.read_text())
        return record["identity"] == target.identity and _is_untouched(place, record["digests"][place.name])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _is_record(path: Path) -> bool:
    """Whether a file is a record at all: what somebody else put under that name is theirs."""
    try:
        told = json.loads(path.read_text())
        return "digests" in told or str(told["schema"]).startswith("mlconv.")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_untouched(path: Path, sha256: object) -> bool:
    return path.is_file() and digest(path) == sha256


# ------------------------------------------------------------------ into place


def put(made: Sequence[Path], target: Target, record: dict[str, Any]) -> tuple[Path, ...]:
    """Move an artifact and its record into place.

    Args:
        made: The artifact first, then files that it refers to by name (external data), or that are ``target.beside``.
            External data is named by its content, so it never replaces a file that an older artifact still needs.
        record: What ``RECORD_SUFFIX`` beside the output will hold, with ``identity`` and ``digests``.

    Returns:
        The files as they are now: the artifact, its companions.

    Raises:
        OutputIsSource, OutputExists: As ``assert_free``: what came there meanwhile is kept.
        OutputUnwritable: The old artifact and its record stand, unless the message says otherwise.
    """
    output = target.path
    scratch = made[0].parent
    digests = {path.name: digest(path) for path in made}
    new_record = scratch / "record.json"
    told = {**record, "identity": target.identity, "digests": digests}
    new_record.write_text(json.dumps(told, indent=2) + "\n")
    places = [output.with_name(path.name) for path in made[1:]]
    seen = _stamp(output)
    assert_free(target)
    old = _companions(target)
    new = [
        (path, place, _stamp(place))
        for path, place in zip(made[1:], places, strict=True)
        if _is_due(path, place, target)
    ]
    with contextlib.ExitStack() as undo:
        try:
            for path in (*made, new_record):
                _flush(path)
            for path, place, there in new:
                if there is None:
                    _link(path, place, replace=target.force)
                    undo.callback(_remove, place)
                else:
                    undo.callback(_restore_over, _copied(place, scratch / f"old-{place.name}"), place)
                    if not target.force and _stamp(place) != there:
                        raise _exists(place)
                    path.replace(place)
            undo.callback(_restore, _set_aside(target.record, scratch), target.record)
            if not target.force and _stamp(output) != seen:
                raise _exists(output)
            _link(made[0], output, replace=seen is not None or target.force)
        except OSError as error:
            raise _unwritable(output, error) from error
        undo.pop_all()
    try:
        new_record.replace(target.record)
        _flush(output.parent)
    except OSError as error:
        raise OutputUnwritable(
            f"`{output}` is written and its record is not", why=str(error),
            fix=f"remove {target.record} if it is there, and run it again with --force",
        ) from error  # fmt: skip
    for path in set(old) - set(places):
        _remove(path)
    return (output, *places)


def _unwritable(output: Path, error: OSError) -> OutputUnwritable:
    return OutputUnwritable(f"`{output}` cannot be written", why=str(error), fix="-o in a folder of your own")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one file in a place from the next; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _link(path: Path, place: Path, *, replace: bool) -> None:
    """Move a file to where there is none, and to where there is one only if it may be replaced.

    Raises:
        OutputExists: There is one.
    """
    if replace:
        path.replace(place)
        return
    try:
        os.link(path, place)  # unlike a rename, it fails where something is
    except FileExistsError as error:
        raise _exists(place) from error
    except OSError:  # a file system without hard links
        if os.path.lexists(place):
            raise _exists(place) from None
        path.replace(place)


def _is_due(path: Path, place: Path, target: Target) -> bool:
    """Whether a companion must be put into its place: the same may be there.

    Raises:
        OutputIsSource, OutputExists: Something is there that is not to be replaced.
    """
    if not os.path.lexists(place):
        return True
    if place.is_file() and digest(place) == digest(path):
        return False
    _assert_not_read([place], target.reads)
    if place.is_dir() or not (target.force or _came_with_own(place, target)):
        raise _exists(place)
    return True


def _copied(place: Path, copy: Path) -> Path:
    """A second name for a file that is about to be replaced; a copy where the file system has no hard links."""
    try:
        os.link(place, copy, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(place, copy, follow_symlinks=False)
    return copy


def _restore_over(copy: Path, place: Path) -> None:
    with contextlib.suppress(OSError):
        copy.replace(place)


def _set_aside(record: Path, scratch: Path) -> Path | None:
    """Take the old record away: a record never describes another file than the one beside it."""
    if not os.path.lexists(record):
        return None
    return record.replace(scratch / "old-record.json")


def _restore(kept: Path | None, record: Path) -> None:
    if kept is not None and not os.path.lexists(record):
        with contextlib.suppress(OSError):
            kept.replace(record)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _companions(target: Target) -> list[Path]:
    """Files of the artifact that is about to be replaced: its record names them, and they are as it says."""
    try:
        made: dict[str, str] = json.loads(target.record.read_text())["digests"]
        beside = {
            target.path.with_name(name): sha256
            for name, sha256 in made.items()
            if name not in (target.path.name, target.record.name) and Path(name).name == name
        }
        reads = {path.resolve() for path in target.reads}
        return [
            path
            for path, sha256 in beside.items()
            if path.resolve() not in reads and _is_untouched(path, sha256)
        ]
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
