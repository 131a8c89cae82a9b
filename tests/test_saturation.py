"""8-bit files on x86 without VNNI, where products of bytes saturate: an emulated Haswell answers as LiteRT does here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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


SHARED_ZERO_POINT = """
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from mlconv.runners import x86
from mlconv.runners.onnx_session import OnnxSession

assert x86.saturates()
weights = np.full((4, 4, 1, 1), 127, np.int8)
held = {"s": np.float32(0.1), "z": np.uint8(0), "ws": np.float32(0.001), "wz": np.int8(0), "w1": weights, "w2": -weights}
nodes = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"])]
for name in ("1", "2"):
    nodes += [helper.make_node("DequantizeLinear", [f"w{name}", "ws", "wz"], [f"d{name}"]),
              helper.make_node("Conv", ["f", f"d{name}"], [f"c{name}"]),
              helper.make_node("QuantizeLinear", [f"c{name}", "s", "z"], [f"y{name}"])]
puts = [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4, 2, 2])]
outs = [helper.make_tensor_value_info(f"y{name}", TensorProto.UINT8, [1, 4, 2, 2]) for name in "12"]
graph = helper.make_graph(nodes, "g", puts, outs, [numpy_helper.from_array(np.asarray(a), n) for n, a in held.items()])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
answer = OnnxSession(model.SerializeToString()).run({"x": np.full((1, 4, 2, 2), 255, np.uint8)})
print(int(answer["y1"].max()), int(answer["y2"].max()))
"""


def test_a_model_whose_operators_share_a_zero_point_runs_there_all_the_same() -> None:
    """255 * 0.127 * 4 = 129.54; two products are 64,770, which 16 bits would cut to 32,767, and the answer to 66."""
    command = [QEMU, "-cpu", "Haswell", sys.executable, "-c", SHARED_ZERO_POINT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["130", "0"], done.stderr[-2000:]
