"""Protocol-buffer wire data, read field by field without the schema's classes.

https://protobuf.dev/programming-guides/encoding/. Nothing is copied: a length-delimited value is a view of the bytes
that were given, so a message of gigabytes (a mapped file) costs what its fields' headers cost.
Every malformed byte raises ``WireError``, a ``ValueError``; each format turns that into ``Corrupt``.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 20_000_000  # of one message: a file of two-byte fields would be walked for hours
_VARINT_BYTES = 10  # 64 bits, 7 in each byte
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}

Data = bytes | bytearray | memoryview


class WireError(ValueError):
    """The bytes are no sequence of protobuf fields."""


def fields(data: Data) -> Iterator[tuple[int, int, int | memoryview]]:
    """Every field of a message in the order of the bytes: number, wire type, value.

    A varint and a fixed number come as an unsigned int (``signed``, ``float32`` tell what they mean), everything else
    as a view of its bytes. Groups (wire types 3 and 4) are refused: no format that mlconv reads has any.

    Raises:
        WireError: A length leaves the message, a varint does not end, or a key is impossible.
    """
    view = _view(data)
    for number, wire, _, start, end in spans(view):
        if wire == BYTES:
            yield number, wire, view[start:end]
        elif wire == VARINT:
            yield number, wire, _varint(view, start)[0]
        else:
            yield number, wire, int.from_bytes(view[start:end], "little")


def spans(view: memoryview, cut: bool = False) -> Iterator[tuple[int, int, int, int, int]]:
    """Where every field stands: number, wire type, first byte of the key, first byte of the value, end.

    Of a length-delimited value that leaves the message, ``cut`` gives what is there, as the last field.

    Raises:
        WireError: As ``fields``.
    """
    position, end, count = 0, len(view), 0
    while position < end:
        at, count = position, count + 1
        if count > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS:,} fields in one message")
        key, position = _varint(view, position)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"field number {number} at byte {at}")
        if wire == VARINT:
            start, (_, position) = position, _varint(view, position)
            yield number, wire, at, start, position
            continue
        if wire == BYTES:
            size, position = _varint(view, position)
        elif wire in _FIXED_BYTES:
            size = _FIXED_BYTES[wire]
        else:
            raise WireError(f"wire type {wire} of field {number} at byte {at}")
        start, position = position, position + size
        if position > end:
            if cut and wire == BYTES:
                yield number, wire, at, start, end
                return
            raise WireError(f"field {number} claims {size} bytes and {end - start} are left")
        yield number, wire, at, start, position


def first(data: Data, *path: int) -> int | memoryview | None:
    """The value at a path of field numbers, each the first of its number; None where a step is absent."""
    value: int | memoryview | None = _view(data)
    for wanted in path:
        if not isinstance(value, memoryview):
            return None
        value = next((found for number, _, found in fields(value) if number == wanted), None)
    return value


def message(data: Data, *path: int) -> memoryview:
    """As ``first`` for a submessage or bytes; empty where it is absent or a number stands in its place."""
    value = first(data, *path)
    return value if isinstance(value, memoryview) else memoryview(b"")


def integer(data: Data, *path: int, default: int = 0) -> int:
    """As ``first`` for an int32, int64, bool or enum."""
    value = first(data, *path)
    return signed(value) if isinstance(value, int) else default


def text(data: Data, *path: int, default: str = "") -> str:
    """As ``first`` for a string; bytes that are not UTF-8 are replaced, not refused."""
    value = first(data, *path)
    return decoded(value) if isinstance(value, memoryview) else default


def messages(data: Data, wanted: int) -> Iterator[memoryview]:
    """Every length-delimited value of a repeated field."""
    for number, _, value in fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def texts(data: Data, wanted: int) -> list[str]:
    """A ``repeated string``."""
    return [decoded(value) for value in messages(data, wanted)]


def integers(data: Data, wanted: int, limit: int = 1 << 20) -> list[int]:
    """A repeated integer field, packed or not.

    Raises:
        WireError: More than ``limit`` numbers; shapes and attributes are meant, not weights.
    """
    found: list[int] = []
    for number, _, value in fields(data):
        if number != wanted:
            continue
        found += [signed(value)] if isinstance(value, int) else _packed(value, limit)
        if len(found) > limit:
            raise WireError(f"more than {limit} numbers in field {wanted}")
    return found


def entries(data: Data, wanted: int) -> dict[str, memoryview]:
    """A ``map<string, M>``: key to the bytes of M (of text or a message; empty where M is absent)."""
    return {text(entry, 1): message(entry, 2) for entry in messages(data, wanted)}


def decoded(value: Data) -> str:
    """Text out of a string field."""
    return bytes(value).decode("utf-8", "replace")


def signed(value: int) -> int:
    """A varint as the int32 or int64 that it stands for."""
    return value - (1 << 64) if value >> 63 else value


def float32(value: int) -> float:
    """A fixed32 as the float that it stands for."""
    import struct

    return float(struct.unpack("<f", value.to_bytes(4, "little"))[0])


def _packed(view: memoryview, limit: int) -> list[int]:
    found: list[int] = []
    position = 0
    while position < len(view) and len(found) <= limit:
        value, position = _varint(view, position)
        found.append(signed(value))
    return found


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    if position < len(view) and view[position] < 0x80:  # most are: twice as fast
        return view[position], position + 1
    value = shift = 0
    for byte in view[position : position + _VARINT_BYTES]:
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise WireError(f"a number that does not end at byte {position}")


def _view(data: Data) -> memoryview:
    return data if isinstance(data, memoryview) else memoryview(data)
