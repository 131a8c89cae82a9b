"""TFLite files and the figures that are expected of their conversion: a change for the worse fails with both numbers."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.corpus import EXPECTED, Figures, judge, measure, read, written
from benchmarks.tflite_figures import Difference, differences
from benchmarks.tflite_sources import Source, sources

pytestmark = pytest.mark.framework("ai_edge_litert", "onnxruntime")

ROOT = Path(__file__).resolve().parents[1]
SAMPLE, TABLE = read(ROOT / EXPECTED)
EXACT, OFF = Difference(0, None, 0.0), Difference(2, None, 0.01)
KNOWN = Figures(
    (EXACT, Difference(None, 3e-6, 0.5)), 1.08, 90, 2, 33, 4, {"QLinearConv": 28, "QLinearAdd": 3}
)


@pytest.fixture(scope="module")
def corpus(models: Path, edgetpu: Path) -> dict[str, Source]:
    return {source.name: source for source in sources(models, edgetpu, made=None)}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_file_of_the_corpus_converts_as_well_as_it_ever_did(name: str, corpus: dict[str, Source]) -> None:
    worse = [str(finding) for finding in judge(TABLE[name], measure(corpus[name])) if finding.is_worse]
    assert not worse, f"{name}: {'; '.join(worse)}"


def test_the_table_knows_every_file_that_is_there(corpus: dict[str, Source]) -> None:
    assert corpus.keys() <= TABLE.keys()


def test_figures_as_expected_are_no_finding() -> None:
    assert judge(KNOWN, KNOWN) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (replace(KNOWN, outputs=(OFF, KNOWN.outputs[1])), "output 0: 0 LSB expected, 2 LSB (1 %) found (worse)"),
        (replace(KNOWN, outputs=(EXACT, Difference(None, 7e-6, 0.5))), "output 1: 3.0e-06 expected, 7.0e-06 found (worse)"),
        (replace(KNOWN, outputs=(EXACT, Difference(None, float("nan"), 1.0))), "output 1: 3.0e-06 expected, nan found (worse)"),
        (replace(KNOWN, outputs=(EXACT,)), "outputs: 0 LSB, 3.0e-06 expected, 0 LSB found (worse)"),
        (replace(KNOWN, size=1.1), "bytes of the source's: 1.080 expected, 1.100 found (worse)"),
        (replace(KNOWN, nodes=91), "nodes: 90 expected, 91 found (worse)"),
        (replace(KNOWN, transposes=3), "transposes: 2 expected, 3 found (worse)"),
        (replace(KNOWN, runs=40), "runs: 33 expected, 40 found (worse)"),
        (replace(KNOWN, unfused=6), "unfused: 4 expected, 6 found (worse)"),
        (replace(KNOWN, kernels={"QLinearConv": 28}), "QLinearAdd: 3 expected, 0 found (worse)"),
        (Figures(error="MLC214"), "outcome: converts expected, MLC214 found (worse)"),
    ],
)  # fmt: skip
def test_what_got_worse_is_told_with_both_numbers(found: Figures, told: str) -> None:
    findings = judge(KNOWN, found)
    assert [str(finding) for finding in findings] == [told]
    assert findings[0].is_worse


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        (replace(KNOWN, outputs=(OFF, KNOWN.outputs[1])), KNOWN, "output 0: 2 LSB (1 %) expected, 0 LSB found (better, update)"),
        (KNOWN, replace(KNOWN, outputs=(EXACT, Difference(None, 0.0, 0.0))), "output 1: 3.0e-06 expected, 0.0e+00 found (better, update)"),
        (KNOWN, replace(KNOWN, size=1.0), "bytes of the source's: 1.080 expected, 1.000 found (better, update)"),
        (KNOWN, replace(KNOWN, transposes=0), "transposes: 2 expected, 0 found (better, update)"),
        (KNOWN, replace(KNOWN, kernels=KNOWN.kernels | {"QGemm": 1}), "QGemm: 0 expected, 1 found (better, update)"),
        (Figures(error="MLC214"), KNOWN, "outcome: MLC214 expected, converts found (better, update)"),
    ],
)  # fmt: skip
def test_what_got_better_is_told_and_does_not_fail(expected: Figures, found: Figures, told: str) -> None:
    findings = judge(expected, found)
    assert [str(finding) for finding in findings] == [told]
    assert not findings[0].is_worse


@pytest.mark.parametrize(
    "found",
    [
        replace(KNOWN, outputs=(EXACT, Difference(None, 2e-6, 0.5))),
        replace(KNOWN, outputs=(EXACT, Difference(None, 5e-6, 0.5))),
        replace(KNOWN, size=1.083),
        replace(KNOWN, outputs=(EXACT, Difference(None, 3e-6, 0.9))),
    ],
)
def test_what_another_machine_or_version_moves_is_neither(found: Figures) -> None:
    assert judge(KNOWN, found) == []


def test_the_share_decides_between_equal_steps() -> None:
    expected = replace(KNOWN, outputs=(OFF, KNOWN.outputs[1]))
    more = replace(KNOWN, outputs=(Difference(2, None, 0.03), KNOWN.outputs[1]))
    assert [finding.is_worse for finding in judge(expected, more)] == [True]
    assert [finding.is_worse for finding in judge(more, expected)] == [False]


def test_the_worse_findings_stand_before_the_better_ones() -> None:
    found = replace(KNOWN, size=1.0, nodes=100)
    assert [finding.is_worse for finding in judge(KNOWN, found)] == [True, False]


@pytest.mark.parametrize(
    "figures", [KNOWN, replace(KNOWN, outputs=(OFF,), kernels={}), Figures(error="MLC214")]
)
def test_what_is_written_is_read_again_as_no_finding(figures: Figures, tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    path.write_text(f'sample = ["a.b"]\n\n{written("a.b", figures)}')
    _, expected = read(path)
    assert judge(expected["a.b"], figures) == []


def test_a_sample_without_figures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.toml"
    path.write_text('sample = ["nowhere"]\n')
    with pytest.raises(KeyError, match="nowhere"):
        read(path)


def test_the_data_file_is_in_order() -> None:
    names = list(tomllib.loads((ROOT / EXPECTED).read_text(encoding="utf-8")))
    assert names[0] == "sample"
    assert len(SAMPLE) == len({*SAMPLE})


def test_the_worst_of_all_runs_counts() -> None:
    wanted = [[np.array([1, 2, 3], np.int8)], [np.array([-128, 0, 127], np.int8)]]
    found = [[np.array([1, 2, 4], np.int8)], [np.array([127, 0, 127], np.int8)]]
    assert differences(wanted, found) == (Difference(255, None, 2 / 6),)


def test_a_float_difference_is_relative_to_the_greatest_magnitude_of_its_own_run() -> None:
    wanted = [[np.array([1.0, 4.0])], [np.array([100.0, np.nan])]]
    found = [[np.array([1.5, 4.0])], [np.array([100.0, np.nan])]]
    assert differences(wanted, found) == (Difference(None, 0.125, 1 / 4),)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_infinitely_far(value: float) -> None:
    (found,) = differences([[np.array([1.0, 2.0])]], [[np.array([value, 2.0])]])
    assert found.relative == float("inf")


@pytest.mark.parametrize("other", [np.zeros((2, 1), np.int8), np.zeros(2, np.uint8)])
def test_an_output_of_another_shape_or_type_is_refused(other: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"an output is u?int8"):
        differences([[np.zeros(2, np.int8)]], [[other]])
