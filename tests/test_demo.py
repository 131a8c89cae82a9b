"""The demonstration, with what is installed and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv import registry
from mlconv.checks.parity import Rule, compare
from mlconv.demo import show
from mlconv.demo.measure import as_input
from mlconv.errors import ParityFailed
from mlconv.jsonable import to_json
from mlconv.result import Checked, CheckLine, Compared
from mlconv.tensors import Quantization, TensorSpec

RunCli = Callable[..., Any]


def test_the_demo_shows_every_source_that_can_run_here(run_cli: RunCli, tmp_path: Path) -> None:
    ran = run_cli("--json", "demo", "shown", cwd=tmp_path)
    assert ran.code == 0, ran
    steps = {step["name"]: step for step in ran.document["steps"]}
    assert list(steps) == list(show.SOURCES)
    done = [step for step in steps.values() if step["ok"]]
    assert done
    for step in done:
        assert step["source_accuracy"] >= 0.96
        assert step["artifact_accuracy"] == pytest.approx(step["source_accuracy"], abs=0.01)
        assert (tmp_path / "shown" / f"{step['name'].replace('.', '-')}.onnx").exists()


def test_what_is_not_installed_is_skipped_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = registry.absent

    def without_frameworks(modules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            name for name in modules if name.partition("|")[0] in ("torch", "tensorflow", "ai_edge_litert")
        ) or absent(modules)

    monkeypatch.setattr(registry, "absent", without_frameworks)
    shown = show._show("digits.pt2", Path("nowhere"), lambda _: None)
    assert (shown.ok, shown.install) == (None, "pip install 'mlconv[torch,cpu]'")
    demo = show.Demo("folder", (shown,), 0.0)
    assert "skipped: needs torch" in demo.text()
    assert not demo.ok


def test_pixels_become_what_each_model_takes() -> None:
    pixels = np.array([[[0, 12], [16, 4]]], np.uint8)
    nchw = as_input(pixels, TensorSpec("x", ("batch", 1, 2, 2), "float32"))
    assert nchw.tolist() == [[[[0, 0.75], [1, 0.25]]]]
    nhwc = as_input(pixels, TensorSpec("x", ("batch", 2, 2, 1), "float32"))
    assert nhwc.shape == (1, 2, 2, 1)
    quantized = as_input(pixels, TensorSpec("x", (1, 2, 2, 1), "int8", Quantization(1 / 255, -128)))
    assert quantized.reshape(-1).tolist() == [-128, 63, 127, -64]


def test_the_held_out_digits_are_as_many_as_the_verdict_counts_with() -> None:
    with np.load(show.TEST_SET) as held_out:
        assert len(held_out["label"]) == show.HELD_OUT


@pytest.mark.parametrize(("lost", "ok"), [(-2, True), (0, True), (1, True), (2, False)])
def test_an_artifact_that_names_more_than_one_digit_fewer_rightly_has_failed(lost: int, ok: bool) -> None:
    row = to_json(compare("y", [np.ones(4, np.float32)], [np.ones(4, np.float32)], Rule()))
    compared = Compared("a", "b", {"outputs": [row], "notes": []}, (), 0.0)
    checked = Checked("b", "onnx", (CheckLine("load", True, ""),), (), 0.0)
    held, detail = show._evidence(checked, compared, 350 / 360, (350 - lost) / 360)
    assert held is ok
    assert ("FEWER" in detail) is not ok


def test_a_comparison_that_fails_fails_the_demo() -> None:
    checked = Checked("b", "onnx", (CheckLine("load", True, ""),), (), 0.0)
    failure = ParityFailed("`y` differs", fix="look")
    held, detail = show._evidence(checked, Compared("a", "b", {}, (), 0.0, failure), 0.97, 0.97)
    assert not held
    assert detail == "sound, NOT the same: `y` differs"
