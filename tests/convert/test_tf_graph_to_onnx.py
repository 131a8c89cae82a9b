"""Frozen TensorFlow 1 graphs to ONNX: inputs and outputs are found, or named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.convert.job import Options
from mlconv.errors import Corrupt, SourceDoesNotRun, UnknownOutput, UnsupportedType
from mlconv.formats import ModelFile

sys.path.insert(0, str(Path(__file__).parent))
from tf_models import agree, job

pytestmark = [
    pytest.mark.framework("tensorflow", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow and tf2onnx warn of themselves
]


@pytest.fixture(scope="module")
def tf() -> Any:
    from mlconv.runners.tensorflow import tensorflow

    return tensorflow().compat.v1


def _graph(tf: Any, path: Path, build: Any) -> Path:
    with tf.Graph().as_default() as graph:
        build()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def _run(task: Any) -> Any:
    from mlconv.convert.tf_graph_to_onnx import run

    return run(task)


def _two_heads(tf: Any) -> Any:
    def build() -> None:
        x = tf.placeholder(tf.float32, (None, 4), name="x")
        flag = tf.placeholder_with_default(np.float32(2), (), name="factor")
        tf.placeholder(tf.float32, (2,), name="nobody_uses_it")
        hidden = tf.tanh(x * flag, name="hidden")
        tf.reduce_sum(hidden, axis=1, name="total")
        tf.split(hidden, 2, axis=1, name="halves")

    return build


def test_inputs_are_the_placeholders_in_use_and_outputs_what_nothing_uses(tf: Any, tmp_path: Path) -> None:
    task = job(_graph(tf, tmp_path / "g.pb", _two_heads(tf)), "tf-graph", tmp_path)
    converted = _run(task)
    assert [spec.name for spec in converted.inputs] == ["x", "factor"]
    assert [spec.name for spec in converted.outputs] == ["total", "halves:0", "halves:1"]
    agree(task, converted)


@pytest.mark.parametrize("name", ["hidden", "hidden:0"])
def test_outputs_may_be_any_node_or_tensor(tf: Any, name: str, tmp_path: Path) -> None:
    task = job(_graph(tf, tmp_path / "g.pb", _two_heads(tf)), "tf-graph", tmp_path, outputs=(name,))
    converted = _run(task)
    assert [(spec.name, spec.shape) for spec in converted.outputs] == [("hidden", ("batch", 4))]
    agree(task, converted)


@pytest.mark.parametrize("name", ["hiden", "hidden:7", "hidden:x"])
def test_an_unknown_output_gets_the_nearest(tf: Any, name: str, tmp_path: Path) -> None:
    task = job(_graph(tf, tmp_path / "g.pb", _two_heads(tf)), "tf-graph", tmp_path, outputs=(name,))
    with pytest.raises(UnknownOutput) as raised:
        _run(task)
    assert raised.value.fix == "--outputs hidden"


def test_an_input_without_a_shape_takes_its_rank_from_the_convolution_behind_it(
    tf: Any, tmp_path: Path
) -> None:
    def build() -> None:
        x = tf.placeholder(tf.float32, None, name="x")
        tf.nn.conv2d(x, np.ones((3, 3, 2, 4), np.float32), 1, "SAME", name="y")

    task = job(_graph(tf, tmp_path / "g.pb", build), "tf-graph", tmp_path)
    converted = _run(task)
    assert converted.inputs[0].shape == ("batch", "height", "width", 2)
    agree(task, converted)


def test_a_graph_with_variables_is_not_frozen(tf: Any, tmp_path: Path) -> None:
    def build() -> None:
        tf.add(tf.placeholder(tf.float32, (2,)), tf.get_variable("w", (2,)))

    with pytest.raises(SourceDoesNotRun, match="is not frozen"):
        _run(job(_graph(tf, tmp_path / "g.pb", build), "tf-graph", tmp_path))


def test_text_is_an_unsupported_type(tf: Any, tmp_path: Path) -> None:
    def build() -> None:
        tf.strings.length(tf.placeholder(tf.string, (None,), name="words"))

    with pytest.raises(UnsupportedType, match="takes text: `words`"):
        _run(job(_graph(tf, tmp_path / "g.pb", build), "tf-graph", tmp_path))


def test_bytes_that_are_no_graph_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "g.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(Corrupt, match="is no GraphDef"):
        _run(job(tmp_path / "g.pb", "tf-graph", tmp_path))


def test_the_runner_of_a_file_gives_what_a_session_gives(tf: Any, tmp_path: Path) -> None:
    from mlconv.convert.tf_graph_to_onnx import open_runner

    source = _graph(tf, tmp_path / "g.pb", _two_heads(tf))
    runner = open_runner(ModelFile("g.pb", source, "tf-graph"), Options())
    answers = runner.run({"x": np.ones((1, 4), np.float32), "factor": np.array(0.5, np.float32)})
    np.testing.assert_allclose(answers["total"], [4 * np.tanh(0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "Saafke_FSRCNN_Tensorflow/models__FSRCNN-small_x2.pb",
        "edvardHua_PoseEstimationForMobile/release__hourglass_model__model.pb",
    ],
)
def test_a_public_model_agrees_with_tensorflow(models: Path, name: str, tmp_path: Path) -> None:
    task = job(models / name, "tf-graph", tmp_path)
    agree(task, _run(task))
