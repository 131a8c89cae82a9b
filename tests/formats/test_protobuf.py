"""Wire data against the encoding's own examples, and against what breaks it."""

from __future__ import annotations

import pytest

from mlconv.formats import protobuf
from mlconv.formats.protobuf import WireError


def test_the_examples_of_the_encoding_page_are_read() -> None:
    assert list(protobuf.fields(b"\x08\x96\x01")) == [(1, protobuf.VARINT, 150)]
    assert protobuf.text(b"\x12\x07testing", 2) == "testing"
    assert protobuf.integer(b"\x1a\x03\x08\x96\x01", 3, 1) == 150


def test_a_negative_number_takes_ten_bytes() -> None:
    assert protobuf.integer(b"\x08" + b"\xff" * 9 + b"\x01", 1) == -1


def test_fixed_numbers_come_as_unsigned_integers() -> None:
    assert list(protobuf.fields(b"\x0d\x00\x00\x80\x3f")) == [(1, protobuf.FIXED32, 0x3F800000)]
    assert protobuf.float32(0x3F800000) == 1.0
    assert list(protobuf.fields(b"\x09" + b"\x01" + b"\0" * 7)) == [(1, protobuf.FIXED64, 1)]


def test_repeated_numbers_are_read_packed_or_not() -> None:
    assert protobuf.integers(b"\x0a\x03\x01\x96\x01" + b"\x08\x07", 1) == [1, 150, 7]


def test_a_map_is_read() -> None:
    entry = b"\x0a\x01k\x12\x01v"
    assert {
        key: bytes(value) for key, value in protobuf.entries(b"\x0a" + bytes([len(entry)]) + entry, 1).items()
    } == {"k": b"v"}


def test_what_is_absent_is_its_default() -> None:
    assert protobuf.first(b"", 1) is None
    assert protobuf.text(b"\x08\x01", 1) == ""
    assert protobuf.integer(b"", 1, default=7) == 7
    assert bytes(protobuf.message(b"\x08\x01", 1, 2)) == b""


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert protobuf.text(b"\x0a\x02a\xff", 1) == "a\ufffd"


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a\x05ab",
        b"\x08",
        b"\x08" + b"\xff" * 11,
        b"\x00\x01",
        b"\x0b",
        b"\x0c",
        b"\x0f",
        b"\x0d\x00",
        b"\xff" * 20,
    ],
    ids=[
        "short",
        "no value",
        "endless varint",
        "field 0",
        "group",
        "end of group",
        "type 7",
        "short fixed",
        "noise",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(protobuf.fields(data))


def test_more_numbers_than_the_limit_are_refused() -> None:
    with pytest.raises(WireError, match="more than 4 numbers"):
        protobuf.integers(b"\x0a\x06" + b"\x01" * 6, 1, limit=4)


def test_a_cut_message_gives_what_is_there_where_that_was_asked_for() -> None:
    assert list(protobuf.spans(memoryview(b"\x08\x01\x12\x09ab"), cut=True)) == [
        (1, 0, 0, 1, 2),
        (2, 2, 2, 4, 6),
    ]
