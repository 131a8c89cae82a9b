"""Answers on drawn inputs, of sources written in numpy: what they refuse, and what is drawn instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from mlconv.checks.drawn import answers, first_answer, usual_sizes
from mlconv.checks.samples import Sample
from mlconv.convert.job import Options
from mlconv.errors import BadInputOption, SourceDoesNotRun, UnsupportedType
from mlconv.input_grammar import parse_inputs
from mlconv.tensors import Axis, TensorSpec, axes_of, with_input_options

Feeds = Mapping[str, np.ndarray]


@dataclass
class Source:
    """A runner whose model is a function of named arrays."""

    inputs: tuple[TensorSpec, ...]
    compute: Callable[..., np.ndarray]
    name: str = "numpy"
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", None, "float32"),)

    def run(self, feeds: Feeds) -> Feeds:
        return {"y": self.compute(**feeds)}

    def spread(self, feeds: Feeds) -> None:  # noqa: ARG002  the protocol's
        return None

    def close(self) -> None:
        return None


def drawn(
    source: Source, *texts: str, samples: int = 8, axes: dict[str, Axis] | None = None
) -> tuple[list[Sample], list[str]]:
    options = Options(input=parse_inputs(texts), samples=samples)
    inputs = with_input_options(source.inputs, options.input)
    notes: list[str] = []
    found = list(answers(source, inputs, axes or axes_of(inputs, options.input), options, notes))
    return [sample for sample, _ in found], notes


def table(rows: int) -> Callable[..., np.ndarray]:
    weights = np.arange(rows, dtype=np.float32)

    def look_up(ids: np.ndarray) -> np.ndarray:
        if ids.max(initial=0) >= rows:
            raise IndexError("index out of range")
        return weights[ids]

    return look_up


def positions(most: int) -> Callable[..., np.ndarray]:
    def add(x: np.ndarray) -> np.ndarray:
        if x.shape[1] > most:
            raise ValueError(f"at most {most} positions")
        return x + np.arange(x.shape[1], dtype=np.float32)

    return add


X = (TensorSpec("x", (None, None), "float32"),)


def test_a_range_is_run_at_both_its_ends() -> None:
    samples, notes = drawn(Source(X, positions(64)), "x=batch,length=1..64")
    assert {sample.sizes["length"] for sample in samples} >= {1, 64}
    assert notes == []


def test_a_range_that_the_source_does_not_take_is_an_error_with_the_one_that_it_takes() -> None:
    with pytest.raises(
        BadInputOption, match=r"does not run at length=64, which `--input` allows: length=1\.\.64"
    ) as caught:
        drawn(Source(X, positions(37)), "x=batch,length=1..64:float32")
    assert caught.value.why == "ValueError: at most 37 positions"
    assert caught.value.fix == "--input x=batch,length=1..37:float32"
    drawn(Source(X, positions(37)), "x=batch,length=1..37:float32")


def test_a_least_size_that_is_refused_raises_the_range() -> None:
    def strided(x: np.ndarray) -> np.ndarray:
        if x.shape[1] < 12:
            raise ValueError("too small")
        return x

    with pytest.raises(BadInputOption, match="h=4, which") as caught:
        drawn(Source(X, strided), "x=batch,h=4..64/4@32")
    assert caught.value.fix == "--input x=batch,h=12..64/4@32"


def test_with_few_samples_the_axis_at_fault_is_still_the_one_that_is_named() -> None:
    with pytest.raises(BadInputOption, match="length=64"):
        drawn(Source(X, positions(37)), "x=batch=1..8,length=1..64", samples=3)


def test_an_open_axis_is_compared_at_the_greatest_size_that_runs() -> None:
    samples, (note,) = drawn(Source(X, positions(11)), "x=batch,length")
    assert max(sample.sizes["length"] for sample in samples) == 11
    assert note == (
        "the source itself does not run at length=17 (ValueError: at most 11 positions), compared at length=11 instead"
    )


def test_a_size_that_needs_too_much_memory_is_told_and_no_fault_of_the_range() -> None:
    def greedy(x: np.ndarray) -> np.ndarray:
        if x.shape[1] > 100:
            raise MemoryError("Unable to allocate 80.0 GiB")
        return x

    samples, (note,) = drawn(Source(X, greedy), "x=batch,n=1..5000")
    assert len(samples) == 8
    assert "n=5000 (it needs more memory than there is)" in note


def test_an_enumerated_shape_that_the_source_refuses_is_named() -> None:
    with pytest.raises(BadInputOption, match="at a shape that `--input` enumerates: `x` 1,64") as caught:
        drawn(Source(X, positions(37)), "x=1,16", "x=1,64")
    assert caught.value.fix == "leave --input x=1,64 out"


def test_enumerated_shapes_are_the_only_ones_that_are_run() -> None:
    samples, notes = drawn(Source(X, positions(64)), "x=1,16", "x=2,64")
    assert {sample.feeds["x"].shape for sample in samples} == {(1, 16), (2, 64)}
    assert notes == []


# ------------------------------------------------------------------ integers and masks

IDS = TensorSpec("ids", (2, 6), "int64")


def test_integers_without_a_range_are_zero_and_one_and_that_is_told() -> None:
    samples, (note,) = drawn(Source((IDS,), table(9)))
    assert {int(value) for sample in samples for value in np.unique(sample.feeds["ids"])} == {0, 1}
    assert note.startswith(
        "`ids` took 0 and 1 alone, since nothing tells a wider range: --input 'ids=...:int64[0..N]'"
    )


def test_a_source_that_takes_zeros_alone_is_run_on_zeros() -> None:
    samples, notes = drawn(Source((IDS,), table(1)))
    assert not any(sample.feeds["ids"].any() for sample in samples)
    assert "the source does not take every choice of 0 and 1 in `ids`: in some samples all were 0" in notes


def masked_mean(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * mask).sum(-1) / mask.sum(-1)


@pytest.mark.parametrize("values", [None, (0.0, 1.0)])
def test_an_integer_mask_hides_no_row_as_a_whole(values: tuple[float, float] | None) -> None:
    inputs = (TensorSpec("mask", (64, 2), "int64", values=values), TensorSpec("x", (64, 2), "float32"))
    samples, notes = drawn(Source(inputs, masked_mean))
    assert all(sample.feeds["mask"][:, 0].all() for sample in samples)
    assert not all(sample.feeds["mask"][:, 1].all() for sample in samples)
    assert not any("the first of each row" in note for note in notes)


def test_integers_that_are_no_rows_are_drawn_freely() -> None:
    inputs = (TensorSpec("flag", (64, 1), "int64"), TensorSpec("flags", (64,), "int64"))
    samples, _ = drawn(Source(inputs, lambda flag, flags: flag[:, 0] + flags))
    assert not samples[0].feeds["flag"].all()
    assert not all(sample.feeds["flags"][0] for sample in samples)


def test_a_row_of_flags_that_is_masked_as_a_whole_is_drawn_again_with_one_element() -> None:
    inputs = (TensorSpec("mask", (64, 2), "bool"), TensorSpec("x", (64, 2), "float32"))
    samples, notes = drawn(Source(inputs, masked_mean))
    assert all(sample.feeds["mask"][:, 0].all() for sample in samples)
    assert not all(sample.feeds["mask"][:, 1].all() for sample in samples)
    assert any("in some samples the first of each row was 1" in note for note in notes)


def test_a_source_that_is_finite_on_nothing_is_told_as_it_is() -> None:
    samples, _ = drawn(Source((IDS,), lambda ids: ids * np.nan))
    assert len(samples) == 8


def test_one_answer_for_a_check_is_a_finite_one_too() -> None:
    inputs = (TensorSpec("mask", (64, 2), "bool"), TensorSpec("x", (64, 2), "float32"))
    _, outputs = first_answer(Source(inputs, masked_mean), inputs, {}, 0)
    assert np.isfinite(outputs["y"]).all()


def test_one_answer_raises_what_the_source_raises() -> None:
    def broken(ids: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        first_answer(Source((IDS,), broken), (IDS,), {}, 0)


def test_a_source_that_never_runs_says_at_which_sizes_it_was_tried() -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        raise ValueError("never")

    with pytest.raises(SourceDoesNotRun, match="on random inputs \\(at batch=2, n=5\\)") as caught:
        drawn(Source(X, broken), "x=batch,n")
    assert caught.value.why == "ValueError: never"


def test_strings_are_told_as_what_no_number_can_be_drawn_for() -> None:
    inputs = (TensorSpec("text", ("n",), "str"),)
    with pytest.raises(UnsupportedType, match="takes strings, which cannot be drawn at random") as caught:
        usual_sizes(Source(inputs, lambda text: text), inputs, {"n": Axis("n")}, 0)
    assert caught.value.fix.startswith("--data FILE.npz or FILE.py:CALLABLE")
