"""What the verdict says of inputs that make the artifact alone give NaN."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.checks.evidence import Answers, Parity, judge
from mlconv.checks.parity_words import parity_verdict
from mlconv.errors import NotFinite
from mlconv.input_grammar import parse_input
from mlconv.tensors import TensorSpec

X = TensorSpec("x", ("batch", 3), "float32")
MASK = TensorSpec("mask", ("batch", 3), "bool")
Y = TensorSpec("y", ("batch", 3), "float32")


class Attention:
    """A softmax over what the mask leaves, as runtimes compute it: NaN where it leaves nothing."""

    name, inputs, outputs = "numpy", (X, MASK), (Y,)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            scores = np.where(feeds["mask"], -np.inf, feeds["x"])
            raised = np.exp(scores - scores.max(-1, keepdims=True))
            return {"y": (raised / raised.sum(-1, keepdims=True)).astype(np.float32)}


def judged(folder: Path, *masks: list[list[bool]], x: float = 1.0) -> Parity:
    """The source gives zeros where the artifact gives NaN."""
    files = []
    for number, rows in enumerate(masks):
        mask = np.array(rows)
        feeds = {"x": np.full(mask.shape, x, np.float32) + number, "mask": mask}
        files.append(folder / f"{number}.npz")
        expected = np.nan_to_num(Attention().run(feeds)["y"])
        np.savez(files[-1], in0=feeds["x"], in1=mask, out0=expected)
    answers = Answers("torch-cpu", (X, MASK), (Y,), tuple(files), samples=len(files))
    runner: Any = Attention()
    return judge(
        runner,
        answers,
        [("y", "y")],
        [("x", "x"), ("mask", "mask")],
        computes="fp32",
        atol=None,
        rtol=None,
    )


def test_a_row_that_is_masked_as_a_whole_is_told_as_the_cause_with_what_to_type(tmp_path: Path) -> None:
    parity = judged(
        tmp_path, [[True, False, False], [False] * 3], [[False, True, False], [False] * 3, [True] * 3]
    )
    failure = parity_verdict(asdict(parity))
    assert isinstance(failure, NotFinite)
    assert str(failure.why).startswith("in sample 1 a row of `mask` is 1 as a whole")
    option = failure.fix.split("'")[1]
    assert failure.fix.startswith("--input '")
    assert "--data FILE" in failure.fix
    assert parse_input(option).values == (0, 0)


@pytest.mark.parametrize(
    "masks", [[[[False, False, True]]], [[[True, False, True], [False] * 3]]], ids=["one", "two"]
)
def test_nan_of_another_cause_is_not_laid_to_the_mask(masks: list[list[list[bool]]], tmp_path: Path) -> None:
    class Broken(Attention):
        def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"y": np.where(feeds["mask"], np.nan, super().run(feeds)["y"]).astype(np.float32)}

    mask = np.array(masks[0])
    np.savez(
        tmp_path / "0.npz",
        in0=np.ones(mask.shape, np.float32),
        in1=mask,
        out0=np.ones(mask.shape, np.float32),
    )
    runner: Any = Broken()
    parity = judge(
        runner, Answers("torch-cpu", (X, MASK), (Y,), (tmp_path / "0.npz",), samples=1), [("y", "y")],
        [("x", "x"), ("mask", "mask")], computes="fp32", atol=None, rtol=None,
    )  # fmt: skip
    failure = parity_verdict(asdict(parity))
    assert isinstance(failure, NotFinite)
    assert failure.why is None
    assert "--input" not in failure.fix
