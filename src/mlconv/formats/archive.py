"""Zip archives that hold models, opened without trusting what their directory claims."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mlconv.errors import Corrupt, PathEscape, Unreadable, listed

MAGIC = b"PK\x03\x04"
DIRECTORY_END = b"PK\x05\x06"  # all of an archive without members

MEMBER_LIMIT = (
    256 << 20
)  # bytes; for members that are read whole: JSON, code, pickles. Weights are never read whole.
_SLACK_BYTES = 64 << 20
_RATIO = 200  # deflate reaches 1032:1 on zeros alone; code and JSON about 10:1, weights about 1.1:1
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Archive:
    """The directory of a zip file.

    Attributes:
        path: The file.
        members: Name to directory entry, in the order of the directory; folders left out.
        root: The folder in which every member lies, with its slash; empty where there is none.
    """

    path: Path
    members: dict[str, zipfile.ZipInfo]
    root: str

    def names(self) -> list[str]:
        """Names of the members below ``root``."""
        return [name.removeprefix(self.root) for name in self.members]

    def __contains__(self, name: str) -> bool:
        return self.root + name in self.members

    def size(self, name: str) -> int:
        """Bytes of a member when unpacked."""
        return self.members[self.root + name].file_size

    def read(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        """A member's content.

        Raises:
            Corrupt: It is not there, is longer than ``limit``, or does not unpack to what the directory says.
        """
        entry = self.members.get(self.root + name)
        if entry is None:
            raise broken(self.path, f"it has no member `{name}`")
        if entry.file_size > limit:
            raise broken(
                self.path,
                f"its member `{name}` takes {entry.file_size:,} bytes, and {limit:,} are read at most",
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(entry)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise broken(self.path, f"its member `{name}` does not unpack: {error}") from error
        except OSError as error:
            raise broken(self.path, f"its member `{name}` cannot be read: {error}") from error

    def stored_at(self, name: str) -> int | None:
        """Where a member's bytes begin in the file; None where they are compressed.

        Raises:
            Corrupt: The member is not where the directory says.
        """
        entry = self.members[self.root + name]
        if entry.compress_type != zipfile.ZIP_STORED:
            return None
        with self.path.open("rb") as file:
            file.seek(entry.header_offset)
            header = file.read(30)
        if len(header) < 30 or not header.startswith(MAGIC):
            raise broken(self.path, f"its member `{name}` is not where the directory says")
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        return int(entry.header_offset + 30 + name_bytes + extra_bytes)


def is_zip(head: bytes) -> bool:
    return head.startswith((MAGIC, DIRECTORY_END))


def open_archive(path: Path) -> Archive:
    """The directory of a zip file. Names that lead outside are told by ``assert_inside``, not here.

    Raises:
        Corrupt: It is cut off or damaged, has a member twice or an encrypted one, or claims to hold far more than fits.
        Unreadable: No permission.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            entries = opened.infolist()
    except PermissionError as error:
        raise Unreadable(
            f"`{path}` cannot be read", why=str(error.strerror), fix="look at its permissions"
        ) from error
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        OSError,
        struct.error,
        OverflowError,
    ) as error:
        raise broken(path, f"its zip directory cannot be read: {error}") from error
    _check(path, entries)
    members = {entry.filename: entry for entry in entries if not entry.is_dir()}
    return Archive(path, members, _root(list(members)))


def assert_inside(archive: Archive) -> None:
    """Refuse an archive with a member that would be unpacked outside it, or that is a link.

    Raises:
        PathEscape: Naming all of them.
    """
    outside = [
        entry.orig_filename for entry in archive.members.values() if leads_outside(entry.orig_filename)
    ]
    if outside:
        raise PathEscape(
            f"`{archive.path}` has members that lead outside it: {listed(outside)}",
            why="unpacking them would write files elsewhere",
            fix="do not use this file; fetch the model from where it was published",
        )
    links = [name for name, entry in archive.members.items() if stat.S_ISLNK(entry.external_attr >> 16)]
    if links:
        raise PathEscape(
            f"`{archive.path}` has members that are links: {listed(links)}",
            why="a link may lead anywhere, and no framework writes one",
            fix="do not use this file; fetch the model from where it was published",
        )


def leads_outside(name: str) -> bool:
    """Whether a relative name leaves its folder, on any operating system."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or parts[0] == "" or "\0" in name or _DRIVE.match(name) is not None


def broken(path: Path, why: str) -> Corrupt:
    return Corrupt(f"`{path}` is damaged", why=why, fix="fetch or save the file again")


def _check(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if not all(entry.filename for entry in entries):
        raise broken(path, "it has a member without a name")
    twice = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if twice:
        raise broken(path, f"it has members of the same name: {listed(twice)}")
    encrypted = [entry.filename for entry in entries if entry.flag_bits & 0x1]
    if encrypted:
        raise Corrupt(
            f"`{path}` is encrypted",
            why=f"its members {listed(encrypted)} need a password",
            fix="unpack and save it without one",
        )
    size = path.stat().st_size
    claimed, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if packed > size or claimed > _RATIO * size + _SLACK_BYTES:
        raise broken(path, f"its {size:,} bytes claim to hold {packed:,} that unpack to {claimed:,}")


def _root(names: list[str]) -> str:
    """The folder that all members share; torch puts everything into one, Keras puts nothing."""
    first = names[0].partition("/")[0] + "/" if names and "/" in names[0] else ""
    return first if first and all(name.startswith(first) for name in names) else ""
