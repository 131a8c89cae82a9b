"""FlatBuffers read from bytes that nobody vouches for.

https://flatbuffers.dev/internals/. Every offset, length and field is checked against the buffer before it is followed.
What a walk may cost is bounded too: a few bytes can refer to the same table millions of times, so a reader counts
the tables and the bytes that it hands out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"
]  # fmt: skip
Number = int | float

_CODE: dict[str, str] = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
_ONE = {kind: struct.Struct("<" + code) for kind, code in _CODE.items()}
_SIZE = {kind: one.size for kind, one in _ONE.items()}

MAX_TABLES = 1_000_000  # the default of flatbuffers::Verifier, include/flatbuffers/verifier.h
MAX_REUSE = (
    8  # how often the average byte may be handed out; writers share strings and vectors, not whole graphs
)
SLACK_BYTES = 1 << 20


class FlatbufferError(ValueError):
    """An offset or a length leaves the buffer, or the buffer refers to itself without end."""


@dataclass(slots=True)
class Reader:
    """A buffer, and what has been read of it.

    Attributes:
        data: The whole buffer; offsets start at its first byte.
        tables: Tables handed out so far.
        charged: Bytes of tables, vectors and strings handed out so far.
    """

    data: memoryview
    tables: int = 0
    charged: int = 0
    _vtables: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def root(self) -> Table:
        """The root table, to which the first four bytes point."""
        return self.table(0)

    def identifier(self) -> bytes:
        return bytes(self.data[4:8])

    def table(self, position: int) -> Table:
        """The table to which the offset at ``position`` points."""
        self.tables += 1
        if self.tables > MAX_TABLES:
            raise FlatbufferError(f"more than {MAX_TABLES:,} tables")
        start = self.follow(position)
        vtable = start - self.number(start, "int32")
        offsets = self._vtables.get(vtable)
        if offsets is None:
            offsets = self._vtables[vtable] = self._vtable(start, vtable)
        size = offsets[1]
        self.within(start, size)
        self.charge(size)
        return Table(self, start, size, vtable, offsets)

    def _vtable(self, start: int, vtable: int) -> tuple[int, ...]:
        """A table of fields: its own size, the tables' size, then the fields' offsets; many tables share it."""
        vtable_size = self.number(vtable, "uint16")
        if vtable_size < 4 or vtable_size % 2 or self.number(vtable + 2, "uint16") < 4:
            raise FlatbufferError(f"the table at byte {start} has no fields that could be")
        self.within(vtable, vtable_size)
        return struct.unpack_from(f"<{vtable_size // 2}H", self.data, vtable)

    def follow(self, position: int) -> int:
        """Where the offset at ``position`` points: always forward."""
        offset = self.number(position, "uint32")
        if offset < 4 or position + offset >= len(self.data):
            raise FlatbufferError(
                f"the offset at byte {position} leads to {position + offset} of {len(self.data)}"
            )
        return position + offset

    def number(self, position: int, kind: Kind) -> int:
        """An integer of the buffer's own structure."""
        one = _ONE[kind]
        if position < 0 or position + one.size > len(self.data):
            self.within(position, one.size)
        value: int = one.unpack_from(self.data, position)[0]
        return value

    def span(self, position: int, size: int) -> memoryview:
        """``size`` bytes at ``position``."""
        self.within(position, size)
        return self.data[position : position + size]

    def within(self, position: int, size: int) -> None:
        """Refuse ``size`` bytes at ``position`` that the buffer does not have."""
        if position < 0 or size < 0 or position + size > len(self.data):
            raise FlatbufferError(f"{size} bytes at {position} of {len(self.data)}")

    def elements(self, position: int, size: int) -> tuple[int, int]:
        """Start and count of the vector to which the offset at ``position`` points; elements take ``size`` bytes."""
        start = self.follow(position)
        count = self.number(start, "uint32")
        self.within(start + 4, count * size)
        return start + 4, count

    def charge(self, size: int) -> None:
        self.charged += size + 4
        if self.charged > MAX_REUSE * len(self.data) + SLACK_BYTES:
            raise FlatbufferError("it refers to the same bytes over and over")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One table. Fields go by their number in the schema, counted from 0; an absent field is its default."""

    reader: Reader
    start: int
    size: int
    vtable: int
    offsets: tuple[int, ...]

    def place(self, field: int) -> int | None:
        """Where the offset of a field stands that is a table, a vector or a string; None where it is absent."""
        return self._at(field, 4)

    def has(self, field: int) -> bool:
        return self._at(field, 0) is not None

    def integer(self, field: int, kind: Kind, default: int = 0) -> int:
        """An integer, a bool or an enum."""
        at = self._at(field, _SIZE[kind])
        return default if at is None else int(self.reader.number(at, kind))

    def real(self, field: int, default: float = 0.0) -> float:
        """A float32."""
        at = self._at(field, 4)
        return default if at is None else float(struct.unpack_from("<f", self.reader.data, at)[0])

    def table(self, field: int) -> Table | None:
        at = self._at(field, 4)
        return None if at is None else self.reader.table(at)

    def tables(self, field: int) -> tuple[Table, ...]:
        """A vector of tables; empty where it is absent."""
        at = self._at(field, 4)
        if at is None:
            return ()
        start, count = self.reader.elements(at, 4)
        if self.reader.tables + count > MAX_TABLES:
            raise FlatbufferError(f"more than {MAX_TABLES:,} tables")
        return tuple(self.reader.table(start + 4 * index) for index in range(count))

    def numbers(self, field: int, kind: Kind) -> tuple[Number, ...]:
        """A vector of numbers; empty where it is absent."""
        at = self._at(field, 4)
        if at is None:
            return ()
        start, count = self.reader.elements(at, _SIZE[kind])
        self.reader.charge(count * _SIZE[kind])
        return struct.unpack_from(f"<{count}{_CODE[kind]}", self.reader.data, start)

    def integers(self, field: int, kind: Kind = "int32") -> tuple[int, ...]:
        """A vector of integers, int32 unless told otherwise."""
        return tuple(int(number) for number in self.numbers(field, kind))

    def blob(self, field: int) -> memoryview | None:
        """A vector of bytes, not copied; None where it is absent."""
        at = self._at(field, 4)
        if at is None:
            return None
        start, count = self.reader.elements(at, 1)
        return self.reader.span(start, count)

    def text(self, field: int, default: str = "") -> str:
        """A string; bytes that are not UTF-8 are replaced, not refused."""
        at = self._at(field, 4)
        return default if at is None else self._text(at)

    def texts(self, field: int) -> tuple[str, ...]:
        """A vector of strings."""
        at = self._at(field, 4)
        if at is None:
            return ()
        start, count = self.reader.elements(at, 4)
        self.reader.charge(4 * count)
        return tuple(self._text(start + 4 * index) for index in range(count))

    def _text(self, at: int) -> str:
        start, count = self.reader.elements(at, 1)
        self.reader.charge(count)
        return bytes(self.reader.span(start, count)).decode("utf-8", "replace")

    def _at(self, field: int, size: int) -> int | None:
        """Where a field stands, or None where the table has it not."""
        offset = self.offsets[field + 2] if field + 2 < len(self.offsets) else 0
        if not offset:
            return None
        if offset < 4 or offset + size > self.size:
            raise FlatbufferError(f"field {field} of the table at byte {self.start} leaves the table")
        return self.start + offset
