"""The statistics of `benchmarks/paired.py`: known ratios come back, whatever disturbs both sides."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.paired import LEAST_PAIRS, MOST_PAIRS, alternate, compare, orders, ratio


def test_the_ratio_of_programs_that_never_vary_is_exact() -> None:
    found = ratio([2.0] * 9, [4.0] * 9, "cpu")
    assert (found.median, found.low, found.high, found.pairs) == (0.5, 0.5, 0.5, 9)
    assert (found.first_ms, found.second_ms) == (2000.0, 4000.0)


def test_what_disturbs_both_sides_of_a_pair_cancels() -> None:
    load = np.random.default_rng(0).uniform(1, 10, 200)
    found = ratio(list(0.003 * load), list(0.002 * load), "cpu")
    assert found.median == pytest.approx(1.5)
    assert found.high - found.low < 1e-9


def test_one_interrupted_run_moves_neither_the_median_nor_the_interval() -> None:
    found = ratio([1.0] * 30 + [500.0], [1.0] * 31, "wall")
    assert (found.median, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_interval_holds_the_true_ratio_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        noise = rng.lognormal(0, 0.3, (2, 60))
        found = ratio(list(1.2 * noise[0]), list(noise[1]), "cpu", seed)
        held += found.low <= 1.2 <= found.high
    assert 180 <= held <= 199  # 190 +- 3.3 standard deviations of a binomial


def test_more_pairs_narrow_the_interval() -> None:
    noise = np.random.default_rng(2).lognormal(0, 0.3, (2, 900))
    few = ratio(list(noise[0][:30]), list(noise[1][:30]), "cpu")
    many = ratio(list(noise[0]), list(noise[1]), "cpu")
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_the_same_times_give_the_same_interval() -> None:
    times = np.random.default_rng(3).lognormal(0, 0.3, (2, 40))
    assert ratio(list(times[0]), list(times[1]), "cpu") == ratio(list(times[0]), list(times[1]), "cpu")


@pytest.mark.parametrize(("first", "second"), [([1.0], []), ([], []), ([1.0, 2.0], [1.0])])
def test_lists_that_are_no_pairs_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(first)} and {len(second)} times"):
        ratio(first, second, "cpu")


def test_a_clock_that_did_not_move_is_refused() -> None:
    with pytest.raises(ValueError, match="clock is too coarse"):
        ratio([0.0, 1.0], [1.0, 1.0], "cpu")


def test_each_side_leads_half_of_the_pairs_in_an_order_that_is_not_regular() -> None:
    drawn = orders(100, 0)
    assert sum(drawn) == 50
    assert drawn != [number % 2 == 0 for number in range(100)]
    assert drawn != orders(100, 1)
    assert drawn == orders(100, 0)


def test_both_sides_run_equally_often_and_each_time_is_credited_to_its_side() -> None:
    now, calls = [0.0], {"first": 0, "second": 0}

    def program(name: str, seconds: float) -> None:
        calls[name] += 1
        now[0] += seconds

    took = alternate(lambda: program("first", 3.0), lambda: program("second", 2.0), 10, lambda: now[0])
    assert took == ([3.0] * 10, [2.0] * 10)
    assert calls["first"] == calls["second"] == 13


def work(times: int) -> int:
    return sum(sum(range(1000)) for _ in range(times))


def test_twice_the_work_takes_about_twice_the_time_of_the_thread() -> None:
    found = compare(lambda: work(400), lambda: work(200), 1, pairs=31)
    assert found.clock == "cpu"
    assert 1.7 < found.median < 2.3  # caches that neighbours share; their time itself does not count


def test_several_threads_are_timed_by_the_wall() -> None:
    assert compare(lambda: work(20), lambda: work(20), 2, pairs=5).clock == "wall"


def test_slow_programs_are_run_often_enough_and_quick_ones_not_forever() -> None:
    assert compare(lambda: work(500), lambda: work(500), 1, budget_s=0.0).pairs == LEAST_PAIRS
    assert compare(lambda: work(1), lambda: work(1), 1, budget_s=60.0).pairs == MOST_PAIRS
