"""What `--data` and `--preprocess` name and whether they belong together, told before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mlconv.convert.job import Options
from mlconv.errors import BadPreprocess, BadUsage, DataDoesNotFit, MissingFile, listed, nearest
from mlconv.pictures import folder
from mlconv.pictures.grammar import is_function, parse
from mlconv.pictures.preprocess import Preprocess

_OF_PARITY = ("atol", "rtol", "samples")
"""Options that say how outputs are compared, and nothing else."""

Kind = Literal["pictures", "arrays", "folder", "function"]
"""A picture or a folder of them; an ``.npz`` file; a folder of such; ``file.py:callable``."""


def assert_understood(options: Options) -> None:
    """Refuse DATA and PREPROCESS that cannot be meant, and figures of a comparison that is not made.

    Raises:
        BadPreprocess, BadUsage, MissingFile, DataDoesNotFit, Unreadable: See ``parse`` and ``kind_of``.
    """
    _assert_compared(options)
    preprocess = None if options.preprocess is None else parse(options.preprocess)
    if preprocess is not None and preprocess.function is not None:
        file = preprocess.function.rpartition(":")[0]
        if not Path(file).is_file():
            raise MissingFile(
                f"no file `{file}`", fix="--preprocess FILE.py:CALLABLE with the path of an existing file"
            )
    if options.data is not None:
        assert_fit_together(options.data, kind_of(options.data), preprocess)
    elif preprocess is not None:
        raise BadUsage(f"--preprocess {preprocess.text} without --data: there are no pictures",
                       fix=f"--data FOLDER_OF_PICTURES --preprocess {preprocess.text}")  # fmt: skip


def _assert_compared(options: Options) -> None:
    given = [name for name in _OF_PARITY if getattr(options, name) != getattr(Options(), name)]
    if given and not options.parity:
        flags = " and ".join(f"--{name}" for name in given)
        raise BadUsage(f"{flags} with --no-parity: nothing is compared",
                       fix=f"leave {flags} out, or --no-parity")  # fmt: skip


def unused(options: Options) -> tuple[str, ...]:
    """A warning where DATA was given and nothing is compared on it."""
    if options.parity or options.data is None:
        return ()
    given = "--data" if options.preprocess is None else "--data and --preprocess"
    return (f"{given} had no effect: they feed the comparison, and --no-parity leaves it out",)


def kind_of(data: str) -> Kind:
    """What a DATA names.

    Raises:
        MissingFile: Nothing is there.
        DataDoesNotFit: A folder holds both pictures and ``.npz`` files, or neither.
    """
    path = Path(data)
    if path.is_dir():
        return _kind_of_folder(path)
    if path.exists():
        return "pictures" if folder.is_picture(path) else "arrays"
    if is_function(data):
        return "function"
    raise MissingFile(
        f"no data at `{data}`", why=_nearest(path),
        fix="--data FILE.npz, a folder of .npz files or of pictures, or FILE.py:CALLABLE",
    )  # fmt: skip


def _nearest(path: Path) -> str | None:
    """The names beside it that are most like a mistyped one."""
    try:
        close = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return None
    return f"nearest: {listed([str(path.parent / name) for name in close])}" if close else None


def _kind_of_folder(path: Path) -> Kind:
    if not folder.holds_arrays(path):
        folder.find(path)  # raises where there are none
        return "pictures"
    try:
        picture = folder.find(path).files[0]
    except DataDoesNotFit:
        return "folder"
    array = min(path.glob("*.npz"))
    raise DataDoesNotFit(f"`{path}` holds both .npz files (`{array.name}`) and pictures (`{picture.name}`)",
                         why="one of them would be ignored", fix="--data with a folder of one kind")  # fmt: skip


def assert_fit_together(data: str, kind: Kind, preprocess: Preprocess | None) -> None:
    """Raises: BadPreprocess: Pictures without PREPROCESS. BadUsage: PREPROCESS without pictures."""
    if kind == "pictures" and preprocess is None:
        raise BadPreprocess(
            f"`{data}` holds pictures, and nothing tells how they become inputs" if Path(data).is_dir()
            else f"`{data}` is a picture, and nothing tells how it becomes an input",
            why="the numbers have to be those that the model was trained on",
            fix="--preprocess imagenet, or yolo, or resize,0..1 (stretched to the input's size, pixels / 255), or resize,-1..1",
        )  # fmt: skip
    if kind != "pictures" and preprocess is not None:
        raise BadUsage(f"--preprocess {preprocess.text} is for pictures, and `{data}` gives arrays",
                       why="arrays feed the inputs as they are", fix="leave --preprocess out")  # fmt: skip
