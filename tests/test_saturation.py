"""8-bit files on x86 without VNNI, where products of bytes saturate: an emulated Haswell answers as LiteRT does here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmarks.saturation import QEMU, emulated, measure, store
from benchmarks.tflite_sources import Source, sources
from tests.convert.tflite_models import Put, one_operator

pytestmark = pytest.mark.framework("ai_edge_litert", "onnxruntime")


@pytest.fixture(scope="module", autouse=True)
def qemu() -> None:
    if shutil.which(QEMU):
        return
    reason = f"{QEMU} is not installed: apt-get install qemu-user-static"
    if os.environ.get("MLCONV_REQUIRE_QEMU") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def corpus(models: Path, edgetpu: Path) -> dict[str, Source]:
    return {source.name: source for source in sources(models, edgetpu, made=None)}


@pytest.fixture
def heavy(tmp_path: Path) -> Path:
    """One convolution whose neighbouring weights are all as great as they get: its sums of two products exceed 16 bits."""
    weights = np.random.default_rng(0).choice(np.array([127, -127, 126], np.int8), (8, 3, 3, 16))
    return one_operator(
        tmp_path / "heavy.tflite", "CONV_2D",
        [Put([1, 8, 8, 16], "INT8", 0.02, -128), Put(weights.shape, "INT8", [0.01] * 8, value=weights), Put([8], "INT32", [0.0002] * 8, value=np.zeros(8, np.int32))],
        [Put([1, 6, 6, 8], "INT8", 0.6, 0)], "Conv2DOptions", version=3, padding=1, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1,
    )  # fmt: skip


def test_the_emulated_processor_saturates_and_both_remedies_are_exact(heavy: Path, tmp_path: Path) -> None:
    found = measure(heavy, tmp_path)
    assert isinstance(found.plain, float)
    assert found.plain > 0
    assert (found.precise, found.portable) == (0, 0)


@pytest.mark.parametrize("name", ["m021", "m023"])
def test_a_network_is_exact_with_either_remedy(name: str, corpus: dict[str, Source], tmp_path: Path) -> None:
    found = measure(corpus[name].path, tmp_path)
    assert (found.precise, found.portable) == (0, 0)


def test_a_model_that_onnxruntime_refuses_there_is_told_in_its_words(tmp_path: Path) -> None:
    store([], [], tmp_path / "answers.npz")
    told = emulated(tmp_path / "answers.npz", [tmp_path / "nowhere.onnx"])
    assert all("nowhere.onnx" in str(words) for words in told[str(tmp_path / "nowhere.onnx")].values())


def test_a_process_that_dies_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"Haswell: exit 1: .*no_answers\.npz"):
        emulated(tmp_path / "no_answers.npz", [])
