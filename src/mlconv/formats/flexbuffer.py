"""FlexBuffers read from bytes that nobody vouches for: one map of scalars, as custom TFLite operators carry their options.

https://flatbuffers.dev/flexbuffers/ and include/flatbuffers/flexbuffers.h. The root stands at the end: its value, its packed
type, its width. Offsets lead backwards. Every one of them is checked before it is followed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

Scalar = bool | int | float

_NULL, _INT, _UINT, _FLOAT, _INDIRECT_INT, _INDIRECT_UINT, _INDIRECT_FLOAT, _MAP, _BOOL = (
    0,
    1,
    2,
    3,
    6,
    7,
    8,
    9,
    26,
)
_INLINE = {_INT: "int", _UINT: "uint", _FLOAT: "float", _BOOL: "uint"}
_INDIRECT = {_INDIRECT_INT: "int", _INDIRECT_UINT: "uint", _INDIRECT_FLOAT: "float"}
_CODES = {
    "int": {1: "b", 2: "h", 4: "i", 8: "q"},
    "uint": {1: "B", 2: "H", 4: "I", 8: "Q"},
    "float": {2: "e", 4: "f", 8: "d"},
}
MAX_KEY_BYTES = 256


class FlexbufferError(ValueError):
    """The bytes are no map, or an offset leaves them."""


def read_scalars(data: memoryview) -> dict[str, Scalar]:
    """A map's numbers and flags by key; its nulls, strings and vectors are left out.

    Raises:
        FlexbufferError: The root is no map, or something leads out of the buffer.
    """
    if len(data) < 3:
        raise FlexbufferError(f"{len(data)} bytes are no FlexBuffer")
    reader, width, kind = _Reader(data), data[-1], data[-2] >> 2
    if width not in (1, 2, 4, 8) or kind != _MAP:
        raise FlexbufferError(f"the root of type {kind} and width {width} is no map")
    return reader.map(reader.follow(len(data) - 2 - width, width), 1 << (data[-2] & 3))


@dataclass(frozen=True, slots=True)
class _Reader:
    data: memoryview

    def map(self, start: int, width: int) -> dict[str, Scalar]:
        """Values at ``start``; before them their count, and the width and place of the keys; behind them their types."""
        count = self.unsigned(start - width, width)
        keys_width = self.unsigned(start - 2 * width, width)
        if keys_width not in (1, 2, 4, 8) or count > len(self.data):
            raise FlexbufferError(f"a map of {count} keys of width {keys_width}")
        keys = self.follow(start - 3 * width, width)
        found = {}
        for index in range(count):
            name = self.key(self.follow(keys + index * keys_width, keys_width))
            value = self.scalar(start + index * width, width, self.unsigned(start + count * width + index, 1))
            if value is not None:
                found[name] = value
        return found

    def scalar(self, position: int, width: int, packed: int) -> Scalar | None:
        """What stands there, or what it leads to; None for anything that is no number."""
        kind = packed >> 2
        if kind in _INDIRECT:
            return self.number(self.follow(position, width), 1 << (packed & 3), _INDIRECT[kind])
        if kind not in _INLINE:
            return None
        value = self.number(position, width, _INLINE[kind])
        return bool(value) if kind == _BOOL else value

    def key(self, position: int) -> str:
        """Up to its zero byte."""
        found = bytes(self.data[position : position + MAX_KEY_BYTES])
        if b"\0" not in found:
            raise FlexbufferError(f"the key at byte {position} has no end")
        return found[: found.index(b"\0")].decode("utf-8", "replace")

    def follow(self, position: int, width: int) -> int:
        """Where the offset at ``position`` leads."""
        offset = self.unsigned(position, width)
        if offset > position:
            raise FlexbufferError(f"the offset at byte {position} leads {offset} back")
        return position - offset

    def unsigned(self, position: int, width: int) -> int:
        return int(self.number(position, width, "uint"))

    def number(self, position: int, width: int, kind: str) -> int | float:
        code = _CODES[kind].get(width)
        if code is None or position < 0 or position + width > len(self.data):
            raise FlexbufferError(f"{kind} of {width} bytes at {position} of {len(self.data)}")
        value: int | float = struct.unpack_from("<" + code, self.data, position)[0]
        return value
