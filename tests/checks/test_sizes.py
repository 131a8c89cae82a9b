"""Sizes at which a source is run."""

from mlconv.checks.sizes import candidates, plans
from mlconv.tensors import Axis, TensorSpec

X = TensorSpec("x", ("batch", 3, "h", "w"), "float32")


def run_at(
    axes: dict[str, Axis], samples: int, specs: tuple[TensorSpec, ...] = (X,)
) -> tuple[list[dict[str, int]], list[str]]:
    usual = next(iter(candidates(axes)))
    found, notes = plans(specs, axes, usual, samples)
    return [plan.sizes for plan in found], notes


def test_each_axis_of_a_range_is_run_at_its_least_usual_and_greatest_size() -> None:
    axes = {"batch": Axis("batch", 1, 8, 1, 4), "h": Axis("h", 32, 96, 32)}
    sizes, notes = run_at(axes, 8)
    assert sizes[0] == sizes[-1] == {"batch": 4, "h": 64}
    assert [plan["batch"] for plan in sizes[1:-1] if plan["h"] == 64][:3] == [1, 8, 5]
    assert [plan["h"] for plan in sizes[1:-1] if plan["batch"] == 4] == [32, 96]
    assert notes == []


def test_samples_beyond_the_ends_take_sizes_within_a_declared_range_by_the_seed() -> None:
    axes = {"h": Axis("h", 8, 512, 8, 16), "w": Axis("w")}
    usual = {"h": 16, "w": 5}
    drawn = [tuple(plan.sizes["h"] for plan in plans((X,), axes, usual, 16, seed)[0]) for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    for sizes in drawn:
        assert len(set(sizes)) > 8
        assert all(8 <= size <= 512 and size % 8 == 0 for size in sizes)
    open_alone = {"w": Axis("w")}
    assert plans((X,), open_alone, {"w": 5}, 16, 0)[0] == plans((X,), open_alone, {"w": 5}, 16, 1)[0]


def test_with_few_samples_all_axes_go_to_their_ends_at_once() -> None:
    axes = {name: Axis(name, 2, 8, 2, 4) for name in ("batch", "h", "w")}
    sizes, notes = run_at(axes, 4)
    assert sizes[1:3] == [dict.fromkeys(axes, 8), dict.fromkeys(axes, 2)]
    assert notes == []


def test_sizes_that_the_samples_leave_out_are_told() -> None:
    axes = {"batch": Axis("batch", 1, 8, 1, 4)}
    sizes, (note,) = run_at(axes, 1)
    assert sizes == [{"batch": 4}, {"batch": 4}]
    assert note == "1 sample leaves sizes out: batch=1; batch=8 (--samples 4 takes all)"
    assert run_at(axes, 4)[1] == []


def test_open_axes_have_different_usual_sizes_and_are_run_at_one_and_a_large_one() -> None:
    axes = {"batch": Axis("batch"), "h": Axis("h")}
    sizes, _ = run_at(axes, 8)
    assert sizes[0] == {"batch": 2, "h": 5}
    assert {plan["h"] for plan in sizes} == {1, 5, 6, 17}


def test_open_axes_in_steps_stay_multiples() -> None:
    axes = {"h": Axis("h", 8, None, 8)}
    assert all(sizes["h"] % 8 == 0 for sizes in candidates(axes))
    assert all(plan["h"] % 8 == 0 for plan in run_at(axes, 8)[0])


def test_enumerated_shapes_are_run_one_after_another_and_nothing_between() -> None:
    side = Axis("s", 16, 64, 1, 32, (32, 16, 64))
    batch = Axis("batch", 1, 2, 1, 1, (1, 1, 2))
    sizes, notes = run_at({"batch": batch, "s": side}, 8)
    assert sizes == [
        {"batch": 1, "s": 32}, {"batch": 1, "s": 16}, {"batch": 2, "s": 64}, {"batch": 1, "s": 32},
    ]  # fmt: skip
    assert notes == []


def test_an_axis_that_follows_from_another_is_never_moved_alone() -> None:
    axes = {"n": Axis("n", 2, 10), "m": Axis("m", 5, 21, tie=("n", 2, 1))}
    sizes, _ = run_at(axes, 8)
    assert {plan["n"] for plan in sizes} >= {2, 10}
    assert all(plan["m"] == 2 * plan["n"] + 1 for plan in sizes)


def test_a_greatest_size_beyond_any_memory_is_not_run_and_told() -> None:
    axes = {"n": Axis("n", 1, 2_000_000_000)}
    sizes, (note,) = run_at(axes, 8, (TensorSpec("x", ("n", 1024), "float32"),))
    assert max(plan["n"] for plan in sizes) == 65536
    assert note.startswith("n=2000000000 was not run: the inputs alone would have 2,048,000,000,000 elements")
