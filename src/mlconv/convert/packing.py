"""What a packer is: it puts a finished artifact of one format into another, such as ONNX into ORT's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PLATFORMS = ("amd64", "arm")
"""What `--target-platform` takes."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Which packer the job that finishes an artifact is to call.

    Attributes:
        name: Its converter's.
        run: ``package.module:function``; ``run(Options) -> Packer``.
        beside: Where to write what lies beside the artifact, as its converter's ``beside`` lists it.
    """

    name: str
    run: str
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Packed:
    """What a packer made of a finished artifact.

    Attributes:
        files: The artifact, then what lies beside it.
        read_back: What a reader tells of it, in words.
        fault: What that reader finds wrong; None where nothing is.
        warnings: One sentence each.
    """

    files: tuple[Path, ...]
    read_back: str
    fault: str | None = None
    warnings: tuple[str, ...] = ()


class Packer(Protocol):
    """One way of packing, with the options of one conversion.

    Attributes:
        exporter: What the summary calls it.
        versions: Of the packages that it uses.
        settings: What it chose where the options left it open, for the artifact's provenance.
    """

    @property
    def exporter(self) -> str: ...
    @property
    def versions(self) -> dict[str, str]: ...
    @property
    def settings(self) -> dict[str, str]: ...

    def pack(self, finished: Path, output: Path, beside: tuple[Path, ...]) -> Packed:
        """Write ``output`` and the files beside it.

        Raises:
            ConversionError: It cannot be packed.
        """
        ...
