"""What `benchmarks/route_graphs.py` calls lost: each measure against the best of the other tools, with room for noise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.paired import Ratio
from benchmarks.route_verdict import Made, lost

OURS = Made(nodes=40, size_bytes=100_000, difference=3e-7)
EVEN = Ratio(1.0, 0.98, 1.02, 50, 1.0, 1.0, "cpu")
THEIRS = replace(OURS, slower=EVEN)


def test_equal_graphs_lose_nothing() -> None:
    assert lost({"mlconv": OURS, "other": THEIRS}) == {}


def test_a_better_graph_loses_nothing() -> None:
    worse = Made(
        nodes=60, size_bytes=200_000, difference=1e-3, slower=Ratio(0.7, 0.6, 0.8, 50, 0.7, 1.0, "cpu")
    )
    assert lost({"mlconv": OURS, "other": worse}) == {}


@pytest.mark.parametrize(
    ("theirs", "measure", "told"),
    [
        (replace(THEIRS, nodes=39), "nodes", "40, other 39"),
        (replace(THEIRS, size_bytes=90_000), "size_bytes", "100,000, other 90,000"),
        (
            replace(THEIRS, slower=Ratio(1.3, 1.2, 1.4, 50, 1.3, 1.0, "cpu")),
            "latency",
            "1.30 (1.20-1.40) of other's",
        ),
    ],
)
def test_a_lost_measure_is_told_with_both_figures(theirs: Made, measure: str, told: str) -> None:
    assert lost({"mlconv": OURS, "worse": replace(THEIRS, nodes=99), "other": theirs}) == {measure: told}


def test_a_difference_beyond_the_order_of_sums_is_lost() -> None:
    assert set(lost({"mlconv": replace(OURS, difference=1e-4), "other": THEIRS})) == {"difference"}
    assert lost({"mlconv": replace(OURS, difference=1.5e-6), "other": THEIRS}) == {}


def test_metadata_and_an_interval_that_holds_one_are_no_loss() -> None:
    wide = Ratio(1.2, 0.9, 1.5, 15, 1.2, 1.0, "cpu")
    assert lost({"mlconv": replace(OURS, size_bytes=103_000), "other": replace(THEIRS, slower=wide)}) == {}


def test_a_tool_that_failed_is_no_competitor() -> None:
    assert lost({"mlconv": OURS, "other": Made("it refuses")}) == {}
