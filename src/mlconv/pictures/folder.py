"""The pictures of a folder, and the classes that its subfolders name; nothing is opened but files without a suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from mlconv.errors import DataDoesNotFit, Unreadable, listed
from mlconv.formats.refs import for_shell

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".avif", ".jp2", ".j2k",
})  # fmt: skip
"""What ``pictures.decode`` opens."""

FOREIGN = frozenset(
    {".heic", ".heif", ".svg", ".psd", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".raw", ".jxl", ".exr", ".dcm"}
)
"""Pictures that Pillow does not decode: a folder that holds one is not taken for a folder without it."""

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures in the order in which they are taken: the first of each class, then the second of each.

    Attributes:
        root: The folder, or the only picture.
        labels: Of each file the index of its class; empty where there are no classes.
        classes: The names of the subfolders, sorted, as torchvision's ImageFolder has them.
        skipped: Other files.
    """

    root: Path
    files: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    skipped: tuple[Path, ...] = ()


def is_picture(path: Path) -> bool:
    """By its suffix; a file without one by how it begins."""
    suffix = path.suffix.lower()
    if suffix or not path.is_file():  # a pipe would be waited for
        return suffix in SUFFIXES or suffix in FOREIGN
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_BEGINNINGS)
    except OSError:
        return False


def holds_arrays(path: Path) -> bool:
    """Whether a folder is one of ``.npz`` samples."""
    return any(path.glob("*.npz"))


def find(path: Path) -> Pictures:
    """The pictures of a folder, or a picture.

    Subfolders are classes, and what lies in folders within them belongs to the class. Names that begin with a dot and
    macOS's ``__MACOSX`` are passed over.

    Raises:
        DataDoesNotFit: There are none, or some lie beside the subfolders of others.
        Unreadable: A folder cannot be listed.
    """
    if not path.is_dir():
        return Pictures(path, (path,))
    files, folders = _listing(path)
    loose, skipped = _sorted_out(files)
    by_class: list[list[Path]] = []
    for folder in folders:
        inside, others = _sorted_out(_walk(folder, {path.resolve()}))
        by_class.append(inside)
        skipped += others
    filled = [folder.name for folder, inside in zip(folders, by_class, strict=True) if inside]
    if loose and filled:
        raise DataDoesNotFit(
            f"`{path}` holds pictures, `{loose[0].name}` for one, and so does its subfolder `{filled[0]}`",
            why="subfolders are classes, and the pictures beside them would have none",
            fix=f"--data {for_shell(str(path / filled[0]))}, or move the pictures of `{path}` into a subfolder",
        )
    if loose:
        return Pictures(path, tuple(loose), skipped=tuple(skipped))
    if not filled:
        raise _none(path, skipped)
    turns = zip_longest(*([(file, label) for file in inside] for label, inside in enumerate(by_class)))
    taken = [pair for turn in turns for pair in turn if pair is not None]
    return Pictures(path, tuple(file for file, _ in taken), tuple(label for _, label in taken),
                    tuple(folder.name for folder in folders), tuple(skipped))  # fmt: skip


def _sorted_out(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Pictures, and other files."""
    pictures: list[Path] = []
    others: list[Path] = []
    for file in files:
        (pictures if is_picture(file) else others).append(file)
    return pictures, others


def _none(path: Path, others: Sequence[Path]) -> DataDoesNotFit:
    held = f"it holds {listed([file.name for file in others], 4)}" if others else "it is empty"
    return DataDoesNotFit(f"the folder `{path}` holds neither pictures nor .npz files", why=held,
                          fix=f"--data with a folder of {', '.join(_TOLD)} or .npz files")  # fmt: skip


_TOLD = (".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".ppm")


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders by name; a link counts as what it leads to, one that leads nowhere as a file."""
    try:
        with os.scandir(folder) as listing:  # which tells files from folders without a look at each
            entries = sorted((entry.name, entry.is_dir()) for entry in listing if not _is_hidden(entry.name))
    except OSError as error:
        raise Unreadable(
            f"the folder `{folder}` cannot be read", why=error.strerror, fix="look at its permissions"
        ) from error
    files = [folder / name for name, is_folder in entries if not is_folder]
    return files, [folder / name for name, is_folder in entries if is_folder]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every file below a folder, links followed; no folder is entered twice, whatever leads to it."""
    own = folder.resolve()
    if own in seen:
        return
    seen.add(own)
    files, folders = _listing(folder)
    yield from files
    for inner in folders:
        yield from _walk(inner, seen)
