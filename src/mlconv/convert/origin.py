"""What a conversion reads: the files that it must never write to, and what was in them before it began."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlconv.convert.job import Options
from mlconv.convert.live import Live
from mlconv.errors import Unreadable
from mlconv.formats import ModelFile, onnx_file, refs
from mlconv.formats import weights as state_dicts
from mlconv.output import digest, size
from mlconv.pictures import folder
from mlconv.pictures.grammar import is_function

_PICTURES_SEEN = 1000
"""Pictures that an output is held against, the first that are fed: each costs a look at the disk."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The files of a conversion.

    Attributes:
        model: The file or folder that holds the source; None where it is an installed module.
        weights: The file of a module's parameters, then the shards that it names.
        others: What else the model is made of: external data, the Python file of ``--module``.
        evidence: What is read and does not make the model: ``--data``, ``--labels``.
        identity: SHA-256 of where the source lies. It names the place without telling it: records travel.
        parameters: SHA-256 of the parameters of a live model, which lie in no file.
    """

    model: Path | None
    weights: tuple[Path, ...]
    others: tuple[Path, ...]
    evidence: tuple[Path, ...]
    identity: str
    parameters: str | None = None

    @property
    def source(self) -> tuple[Path, ...]:
        """What the model is made of, each once."""
        own = () if self.model is None else (self.model,)
        return tuple(dict.fromkeys((*own, *self.weights, *self.others)))

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that must not be written to."""
        return (*self.source, *self.evidence)


@dataclass(frozen=True, slots=True)
class Content:
    """What was in the files of a source at one moment.

    Attributes:
        sha256, bytes: Of the file or folder that holds the model.
        weights_sha256: Of a module's parameters; of shards, that of the sorted ``name:sha256`` lines, index included.
        digests: Of every file of the source, by path.
        stamps: Size and time of modification, by path.
    """

    sha256: str | None
    bytes: int | None
    weights_sha256: str | None
    digests: dict[Path, str]
    stamps: dict[Path, tuple[int, int]]


def reads(model: ModelFile, options: Options) -> Reads:
    """All that converting this model will read, as far as it can be told before Python code runs.

    Raises:
        InputError: See ``onnx_file.external_files`` and ``formats.weights.shards``.
        BadUsage: ``--module`` is no REF.
    """
    parameters = Path(options.weights) if options.weights else None
    if model.format == "torch-weights":
        parameters = model.path
    others: list[Path] = []
    if model.format == "onnx" and model.path is not None:
        others += onnx_file.external_files(model.path)
    for ref in (model.ref if model.format == "torch-module" else None, options.module):
        others += () if ref is None else _python_of(ref)
    if options.custom_objects is not None and Path(options.custom_objects).is_file():
        others.append(Path(options.custom_objects))
    return Reads(
        model.path, () if parameters is None else _with_shards(parameters), tuple(others),
        tuple(_evidence(options)), _identity(model, options),
    )  # fmt: skip


def of_live(live: Live, options: Options) -> Reads:
    """The same for a model of the caller's process; one that was saved lies in a file of ours."""
    if live.model.path is not None:
        return replace(reads(live.model, options), identity=live.identity)
    return Reads(None, (), (), tuple(_evidence(options)), live.identity, live.parameters)


def look(files: Reads) -> Content:
    """Read the source's files once.

    Raises:
        Unreadable: One cannot be read.
    """
    try:
        stamps = _stamps(files.source)  # first: what changes while it is hashed shows afterwards
        digests = {path: digest(path) for path in files.source if path.exists()}
        length = None if files.model is None else size(files.model)
    except OSError as error:
        raise Unreadable(
            f"`{error.filename}` cannot be read", why=error.strerror, fix="look at its permissions"
        ) from error
    own = None if files.model is None else digests[files.model]
    return Content(own, length, files.parameters or _of_weights(files.weights, digests), digests, stamps)


def assert_unchanged(files: Reads, before: Content) -> None:
    """Refuse a source that was written to since: its artifact would be of no version that can be named.

    Raises:
        Unreadable: Its content is another than it was.
    """
    try:
        if _stamps(files.source) == before.stamps:
            return
    except OSError:  # it is gone: said below
        pass
    now = look(files)
    changed = [
        path for path in before.digests | now.digests if before.digests.get(path) != now.digests.get(path)
    ]
    if changed:
        raise Unreadable(
            f"`{changed[0]}` changed while it was converted", why="something else writes to it",
            fix="run it again when the source is complete, or convert a copy",
        )  # fmt: skip


def _identity(model: ModelFile, options: Options) -> str:
    """Where the source lies, links followed: a model that was trained again in its place is the same source."""
    weights = str(Path(options.weights).resolve()) if options.weights else None
    place = _resolved(model.ref) if model.format == "torch-module" else str(_place(model).resolve())
    told = [model.format, place, options.module and _resolved(options.module), weights]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _place(model: ModelFile) -> Path:
    """The folder that was named, where the model is its greatest version."""
    named = Path(model.ref)
    return named if model.path is None or named.is_dir() else model.path


def _resolved(ref: str) -> str:
    """A REF whose file is told from the root of the file system."""
    files = _python_of(ref)
    found = refs.parse_ref(ref)
    if found.file is not None:
        return f"{found.file.resolve()}:{ref.partition('.py:')[2]}"
    return f"{files[0].resolve()}:{ref}" if files else ref


def _python_of(ref: str) -> tuple[Path, ...]:
    """The Python file of a REF: that which it names, or the one in this folder that its module would be."""
    found = refs.parse_ref(ref)
    if found.file is not None:
        return (found.file,)
    place = Path(*(found.module or "").split("."))
    return tuple(path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def _with_shards(path: Path) -> tuple[Path, ...]:
    with path.open("rb") as file:
        head = file.read(64)
    return (path, *state_dicts.shards(path)) if state_dicts.is_index(head) else (path,)


def _evidence(options: Options) -> Iterator[Path]:
    if options.labels:
        yield Path(options.labels)
    if options.data is None:
        return
    if options.preprocess is not None and is_function(options.preprocess):
        yield Path(options.preprocess.rpartition(":")[0])
    path = Path(options.data)
    if path.is_dir():
        yield from sorted(path.glob("*.npz")) or folder.find(path).files[:_PICTURES_SEEN]
    elif not path.exists() and is_function(options.data):
        yield Path(options.data.rpartition(":")[0])
    else:
        yield path


def _stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    found = {}
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.is_file():
                status = file.stat()
                found[file] = (status.st_size, status.st_mtime_ns)
    return found


def _of_weights(paths: tuple[Path, ...], digests: dict[Path, str]) -> str | None:
    if len(paths) < 2:
        return digests[paths[0]] if paths else None
    lines = sorted(f"{path.name}:{digests[path]}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
