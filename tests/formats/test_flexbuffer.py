"""Options of custom operators, as their writer made them and as nobody should have."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from mlconv.formats.flexbuffer import FlexbufferError, read_scalars

OPTIONS = {
    "max_detections": 10,
    "nms_score_threshold": 9.99999993922529e-09,
    "use_regular_nms": True,
    "y_scale": 10.0,
    "negative": -70_000,
    "large": 2**40,
}


def written(options: object) -> bytes:
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    return bytes(flexbuffers.Dumps(options))


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        {"one": 1},
        {},
        {"half": 0.5, "flag": False},
        {f"key{number}": number for number in range(300)},
    ],
)
def test_numbers_and_flags_are_read_by_key(options: dict[str, object]) -> None:
    assert read_scalars(memoryview(written(options))) == options


def test_floats_beside_small_integers_keep_their_width() -> None:
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Float("w_scale", 5.0)
        builder.IndirectFloat("threshold", 0.25)
        builder.IndirectInt("count", -3)
    assert read_scalars(memoryview(bytes(builder.Finish()))) == {
        "w_scale": 5.0,
        "threshold": 0.25,
        "count": -3,
    }


def test_what_is_no_number_is_left_out() -> None:
    assert read_scalars(memoryview(written({"name": "text", "list": [1, 2], "none": None, "kept": 3}))) == {
        "kept": 3
    }


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x07\x00\x01", written([1, 2, 3]), written("text"), bytes(40)]
)
def test_what_is_no_map_is_refused(data: bytes) -> None:
    with pytest.raises(FlexbufferError):
        read_scalars(memoryview(data))


def test_changed_bytes_are_read_or_refused_never_a_crash() -> None:
    rng, whole = np.random.default_rng(0), written(OPTIONS)
    for _ in range(5000):
        data = bytearray(whole[: rng.integers(0, len(whole) + 1)] if rng.random() < 0.2 else whole)
        for _ in range(rng.integers(1, 4)):
            if data:
                data[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(FlexbufferError):
            read_scalars(memoryview(bytes(data)))
