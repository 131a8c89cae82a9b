"""The source's answers on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlconv.checks.reference import in_a_row, refer
from mlconv.convert.job import Options
from mlconv.input_grammar import parse_inputs
from mlconv.tensors import TensorSpec, axes_of, with_input_options

Feeds = Mapping[str, np.ndarray]


@dataclass
class LookUp:
    """A runner that adds rows of a table of nine to what it is given."""

    name: str = "numpy"
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec("ids", (None, None), "int64", values=(0.0, 8.0)),
        TensorSpec("x", (None, None), "float32"),
    )
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", None, "float32"),)

    def run(self, feeds: Feeds) -> Feeds:
        return {"y": np.arange(9, dtype=np.float32)[feeds["ids"]] + feeds["x"]}

    def spread(self, feeds: Feeds) -> None:  # noqa: ARG002  the protocol's
        return None

    def close(self) -> None:
        return None


def test_files_hold_inputs_and_answers_at_every_end_of_the_ranges(tmp_path: Path) -> None:
    options = Options(input=parse_inputs(["ids=batch=1..3,length=2..16", "x=batch,length"]))
    runner = LookUp()
    inputs = with_input_options(runner.inputs, options.input)
    told = refer(runner, inputs, axes_of(inputs, options.input), options, tmp_path)
    assert (told.runner, told.samples, len(told.files), told.notes) == ("numpy", 8, 8, ())
    shapes = set()
    for path in told.files:
        with np.load(path) as sample:
            shapes.add(sample["in0"].shape)
            np.testing.assert_array_equal(sample["out0"], sample["in0"].astype(np.float32) + sample["in1"])
            assert (sample["in0"].flat[0], sample["in0"].flat[-1]) == (0, 8)
    assert {batch for batch, _ in shapes} >= {1, 2, 3}
    assert {length for _, length in shapes} >= {2, 16}


@dataclass
class Total(LookUp):
    """A runner that adds up what it was given, times ``factor``."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", ("batch", 2), "float32"),)
    factor: float = 1.0
    left: float | np.ndarray = 0.0

    def run(self, feeds: Feeds) -> Feeds:
        self.left = 0.0
        return self.run_on(feeds)

    def run_on(self, feeds: Feeds) -> Feeds:
        given = feeds["x"] + self.left
        self.left = self.factor * given
        return {"y": given.astype(np.float32)}


def test_runs_in_a_row_are_left_on_disk_for_inputs_of_one_shape(tmp_path: Path) -> None:
    runner = Total()
    told = refer(runner, runner.inputs, axes_of(runner.inputs), Options(), tmp_path)
    made = in_a_row(runner, runner.inputs, told, tmp_path)
    steps = [dict(np.load(path)) for path in made.steps]
    assert len(steps) == 3
    assert len({step["in0"].shape for step in steps}) == 1
    np.testing.assert_allclose(steps[2]["out0"], sum(step["in0"] for step in steps), rtol=1e-6)
    assert made.notes == told.notes


def test_variables_that_change_no_answer_are_told(tmp_path: Path) -> None:
    runner = Total(factor=0.0)
    told = refer(runner, runner.inputs, axes_of(runner.inputs), Options(samples=1), tmp_path)
    note = in_a_row(runner, runner.inputs, told, tmp_path).notes[-1]
    assert note.startswith("the source's variables changed no output in 3 runs in a row")


def test_the_last_bit_of_the_inputs_moves_the_answers(tmp_path: Path) -> None:
    runner = LookUp(inputs=(TensorSpec("ids", (1, 4), "int64"), TensorSpec("x", (1, 4), "float32")))
    told = refer(runner, runner.inputs, {}, Options(samples=2), tmp_path)
    assert all(0 < noise[0] < 1e-5 for noise in told.noise)
