"""Hostile bytes: seeded changes of real files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

Mutations = Callable[[bytes], Iterator[bytes]]

EXTREMES = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
COUNT = 300


@pytest.fixture(scope="session")
def mutations() -> Mutations:
    """``mutations(data)``: the same few hundred broken copies on every run: cut, flipped, shifted, with absurd lengths."""

    def broken(data: bytes) -> Iterator[bytes]:
        rng = random.Random(len(data))
        for _ in range(COUNT):
            yield _mutated(rng, data)

    return broken


def _mutated(rng: random.Random, data: bytes) -> bytes:
    if rng.randrange(6) == 0:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at : at + 4] = rng.choice(EXTREMES)
            case 3:
                source = rng.randrange(len(changed))
                changed[at:at] = changed[source : source + rng.randrange(1, 64)]
            case _:
                del changed[at : at + rng.randrange(1, min(32, len(changed)))]
                changed = changed or bytearray(data)
    return bytes(changed)
