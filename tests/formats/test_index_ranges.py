"""Ranges of inputs from the tables that they index. Expected ends are worked out by hand."""

import itertools
import math
from collections.abc import Callable

import pytest

from mlconv.formats.index_ranges import Index, Key, Kind, Step, all_inside, ranges

IDS: dict[Key, str] = {"ids": "int64"}
MASKED: dict[Key, str] = {"ids": "int64", "mask": "int64"}


def number(name: str, value: float, high: float | None = None) -> Step:
    return Step("constant", name, value=(value, value if high is None else high))


def test_an_index_takes_the_rows_of_the_smallest_table() -> None:
    assert ranges(IDS, [], [Index("ids", 100), Index("ids", 7), Index("ids", 9)]) == {"ids": (0, 6)}


def test_an_input_that_indexes_nothing_has_no_range() -> None:
    assert ranges(MASKED, [], [Index("ids", 5)]) == {"ids": (0, 4)}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([number("c", 2), Step("add", "i", ("ids", "c"))], (0, 7)),
        ([number("c", 1), Step("sub", "i", ("ids", "c"))], (1, 10)),
        ([number("c", 9), Step("sub", "i", ("c", "ids"))], (0, 9)),
        ([number("c", 3), Step("mul", "i", ("ids", "c"))], (0, 3)),
        ([number("c", 4), Step("div", "i", ("ids", "c"))], (0, 39)),
        ([number("c", 4), Step("mod", "i", ("ids", "c"))], None),
        ([number("c", 20), Step("mod", "i", ("ids", "c"))], (0, 9)),
        ([number("c", 9), Step("min", "i", ("ids", "c"))], None),
        ([number("c", 2), Step("max", "i", ("ids", "c"))], (0, 9)),
        ([number("c", 0, 3), Step("add", "i", ("ids", "c"))], (0, 6)),
        ([number("c", 1), Step("hull", "i", ("ids", "c"))], (0, 9)),
        ([Step("sum", "i", ("ids",), count=3)], (0, 3)),
        ([Step("truth", "i", ("ids",))], None),
    ],
)
def test_what_is_done_on_the_way_to_a_table_of_ten_rows_is_followed(
    steps: list[Step], expected: tuple[int, int] | None
) -> None:
    found = ranges(IDS, steps, [Index("i", 10)])
    assert found == ({} if expected is None else {"ids": expected})


def test_a_choice_counts_only_where_it_may_be_taken() -> None:
    wrapped = [
        number("zero", 0), number("rows", 50), Step("less", "negative", ("ids", "zero")),
        Step("add", "from_the_end", ("ids", "rows")), Step("where", "i", ("negative", "from_the_end", "ids")),
    ]  # fmt: skip
    assert ranges(IDS, wrapped, [Index("i", 50)]) == {"ids": (0, 49)}


def test_a_mask_that_multiplies_ids_stays_a_mask() -> None:
    steps = [Step("mul", "i", ("ids", "mask"))]
    found = ranges(MASKED, steps, [Index("i", 100)])
    assert found == {"ids": (0, 99), "mask": (0, 1)}


def test_what_is_not_known_bounds_nothing() -> None:
    assert ranges(IDS, [Step("add", "i", ("ids", "who knows"))], [Index("i", 10)]) == {}
    assert ranges(IDS, [], [Index("something else", 10)]) == {}


def test_a_table_of_one_row_takes_zero_alone() -> None:
    assert ranges(IDS, [], [Index("ids", 1)]) == {"ids": (0, 0)}


def test_bytes_end_where_their_type_does() -> None:
    small: dict[Key, str] = {"ids": "uint8"}
    assert ranges(small, [], [Index("ids", 1000)]) == {"ids": (0, 255)}


def test_negative_indices_count_from_the_end_where_the_operator_takes_them() -> None:
    steps = [number("c", 3), Step("sub", "i", ("ids", "c"))]
    assert ranges(IDS, steps, [Index("i", 10, wraps=True)]) == {"ids": (0, 12)}
    assert ranges(IDS, steps, [Index("i", 10)]) == {"ids": (3, 12)}


def test_one_range_is_held_against_the_tables() -> None:
    assert all_inside({"ids": (0, 9)}, [], [Index("ids", 10)])
    assert not all_inside({"ids": (0, 10)}, [], [Index("ids", 10)])
    assert all_inside({"ids": (-10, 9)}, [], [Index("ids", 10, wraps=True)])


BINARY: dict[Kind, Callable[[int, int], float]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a // b,
    "mod": lambda a, b: a % b, "fmod": math.fmod, "min": min, "max": max, "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b, "equal": lambda a, b: a == b, "not_equal": lambda a, b: a != b,
}  # fmt: skip


OTHERS = (-3, -1, 1, 2, 5)


def fits(kind: Kind, low: int, high: int, other: int, rows: int, least: int) -> bool:
    """Whether the interval of ``low..high`` with another number, moved to begin at 0, fits a table."""
    moved = [number("least", least), Step("sub", "i", ("out", "least"))]
    steps = [number("c", other), Step(kind, "out", ("x", "c")), *moved]
    return all_inside({"x": (low, high)}, steps, [Index("i", rows)])


@pytest.mark.parametrize("kind", BINARY)
def test_an_interval_is_no_narrower_than_what_python_computes(kind: Kind) -> None:
    for low in range(-4, 5):
        for high, other in itertools.product(range(low, 5), OTHERS):
            values = [int(BINARY[kind](value, other)) for value in range(low, high + 1)]
            least, most = min(values), max(values)
            assert not fits(kind, low, high, other, most - least, least), (low, high, other)
            assert not fits(kind, low, high, other, most - least + 1, least + 1), (low, high, other)


@pytest.mark.parametrize("kind", sorted(BINARY.keys() - {"mod", "fmod"}))
def test_an_interval_is_no_wider_than_what_python_computes(kind: Kind) -> None:
    for low in range(-4, 5):
        for high, other in itertools.product(range(low, 5), OTHERS):
            values = [int(BINARY[kind](value, other)) for value in range(low, high + 1)]
            assert fits(kind, low, high, other, max(values) - min(values) + 1, min(values)), (
                low,
                high,
                other,
            )
