"""The reader against bytes laid out by hand, and against bytes that lie."""

from __future__ import annotations

import struct

import pytest

from mlconv.formats.flatbuffer import FlatbufferError, Reader, Table


def table_bytes() -> bytes:
    """A root table with an int32 (field 0), an absent field 1, and the string `hi` (field 2)."""
    vtable = struct.pack("<HHHHH", 10, 12, 4, 0, 8) + b"\0\0"
    table = struct.pack("<iiI", 12, 7, 4)  # the vtable stands 12 bytes before; the string 4 after its field
    text = struct.pack("<I", 2) + b"hi\0\0"
    return struct.pack("<I", 16) + vtable + table + text


def root(data: bytes) -> Table:
    return Reader(memoryview(data)).root()


def test_fields_are_read_by_their_number() -> None:
    table = root(table_bytes())
    assert (table.integer(0, "int32"), table.integer(1, "int32", 5), table.text(2)) == (7, 5, "hi")
    assert table.has(0)
    assert not table.has(1)
    assert not table.has(99)


@pytest.mark.parametrize("size", range(len(table_bytes()) - 2))
def test_a_truncated_buffer_is_refused(size: int) -> None:
    with pytest.raises(FlatbufferError):
        root(table_bytes()[:size]).text(2)


@pytest.mark.parametrize("offset", [0, 3, 0xFFFFFFFF, 0x7FFFFFFF, 30])
def test_an_offset_that_leads_nowhere_is_refused(offset: int) -> None:
    with pytest.raises(FlatbufferError):
        root(struct.pack("<I", offset) + table_bytes()[4:]).text(2)


def test_a_length_that_leaves_the_buffer_is_refused() -> None:
    data = bytearray(table_bytes())
    data[28:32] = b"\xff\xff\xff\xff"
    with pytest.raises(FlatbufferError, match="bytes at"):
        root(bytes(data)).text(2)


def test_a_field_outside_its_table_is_refused() -> None:
    data = bytearray(table_bytes())
    data[8:10] = b"\xff\x00"
    with pytest.raises(FlatbufferError, match="leaves the table"):
        root(bytes(data)).integer(0, "int32")


def test_bytes_that_are_handed_out_over_and_over_are_refused() -> None:
    table = root(table_bytes())

    def read(times: int) -> None:
        for _ in range(times):
            table.text(2)

    read(1000)
    with pytest.raises(FlatbufferError, match="over and over"):
        read(1_000_000)
