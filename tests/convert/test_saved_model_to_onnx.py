"""SavedModels of TensorFlow 1 and 2 to ONNX."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.convert.job import Options
from mlconv.errors import (
    Corrupt,
    OpsetOutOfReach,
    ShapesNeeded,
    UnknownSignature,
    UnknownTag,
    UnsupportedOperator,
    UnsupportedType,
)
from mlconv.formats import ModelFile

sys.path.insert(0, str(Path(__file__).parent))
from tf_models import agree, job, operators

pytestmark = [
    pytest.mark.framework("tensorflow", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow and tf2onnx warn of themselves
]

KWS = "mlcommons_tiny/benchmark__training__keyword_spotting__trained_models__kws_ref_model"
HALF_PLUS_TWO = "tensorflow_serving/tensorflow_serving__servables__tensorflow__testdata__saved_model_half_plus_two_cpu__00000123"
STRINGS = "dotnet_machinelearning-testdata/Microsoft.ML.TensorFlow.TestModels__model_string_test"


def _run(task: Any) -> Any:
    from mlconv.convert.saved_model_to_onnx import run

    return run(task)


RunCli = Callable[..., Any]  # conftest.run_cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One SavedModel with a signature for each thing that can be odd."""
    from mlconv.runners.tensorflow import tensorflow

    tf = tensorflow()

    class Model(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32))
            keys = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2], tf.int64))
            self.table = tf.lookup.StaticHashTable(keys, -1)

    model = Model()
    rows = tf.TensorSpec((None, 4), name="rows")
    functions = {
        "dense": (
            lambda rows: {"y": rows @ model.weights, "again": rows @ model.weights, "rows_back": rows},
            [rows],
        ),
        "loop": (_loop(tf, model), [rows, tf.TensorSpec((), tf.int32, name="times")]),
        "branch": (
            lambda rows: {
                "y": tf.cond(tf.reduce_sum(rows) > 0, lambda: rows @ model.weights, lambda: rows - 1)
            },
            [rows],
        ),
        "lookup": (
            lambda words: {"number": model.table.lookup(words)},
            [tf.TensorSpec((None,), tf.string, name="words")],
        ),
        "any_rank": (lambda x: {"y": tf.abs(x) * 2}, [tf.TensorSpec(None, name="x")]),
        "no_inputs": (lambda: {"y": tf.reduce_sum(model.weights)}, []),
        "unused": (lambda rows, unused: {"y": rows + 0}, [rows, tf.TensorSpec((3,), name="unused")]),  # noqa: ARG005
        "foreign": (
            lambda rows: {"y": tf.linalg.svd(rows, compute_uv=False), "z": tf.math.digamma(rows)},
            [rows],
        ),
        "renamed": (lambda rows: {"rows": rows @ model.weights}, [rows]),
        "reshaped": (lambda rows: {"y": tf.reshape(rows @ model.weights, (-1, 2, 2))}, [rows]),
        "text": (
            lambda words: {"y": tf.strings.join([words, "!"])},
            [tf.TensorSpec((None,), tf.string, name="words")],
        ),
    }
    signatures = {
        name: tf.function(call, input_signature=specs).get_concrete_function()
        for name, (call, specs) in functions.items()
    }
    path = tmp_path_factory.mktemp("saved") / "model"
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


def _loop(tf: Any, model: Any) -> Any:
    def loop(rows: Any, times: Any) -> Any:
        body = lambda i, x: (i + 1, tf.tanh(x @ model.weights))  # noqa: E731
        return {"y": tf.while_loop(lambda i, _: i < times, body, (0, rows))[1]}

    return loop


@pytest.mark.parametrize(
    "signature", ["dense", "loop", "branch", "lookup", "no_inputs", "unused", "reshaped", "renamed"]
)
def test_a_signature_agrees_with_tensorflow_at_batch_1_and_3(
    folder: Path, signature: str, tmp_path: Path
) -> None:
    task = job(folder, "saved-model", tmp_path, signature=signature)
    agree(task, _run(task))


def test_two_outputs_of_one_tensor_and_an_input_given_back_all_stay(folder: Path, tmp_path: Path) -> None:
    converted = _run(job(folder, "saved-model", tmp_path, signature="dense"))
    assert [spec.name for spec in converted.outputs] == ["again", "rows_back", "y"]
    assert {spec.shape for spec in converted.outputs} == {("batch", 4)}


def test_the_batch_is_found_again_behind_a_reshape(folder: Path, tmp_path: Path) -> None:
    converted = _run(job(folder, "saved-model", tmp_path, signature="reshaped"))
    assert converted.outputs[0].shape == ("batch", 2, 2)


def test_an_output_that_is_called_like_an_input_gets_a_number(folder: Path, tmp_path: Path) -> None:
    converted = _run(job(folder, "saved-model", tmp_path, signature="renamed"))
    assert [spec.name for spec in (*converted.inputs, *converted.outputs)] == ["rows", "rows_1"]


def test_an_unused_input_stays(folder: Path, tmp_path: Path) -> None:
    converted = _run(job(folder, "saved-model", tmp_path, signature="unused"))
    assert [spec.name for spec in converted.inputs] == ["rows", "unused"]


def test_several_signatures_without_a_default_are_listed_with_their_inputs(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownSignature, match="several signatures") as raised:
        _run(job(folder, "saved-model", tmp_path))
    assert "`loop` (rows: float32[?,4], times: int32[scalar])" in str(raised.value.why)


def test_a_mistyped_signature_gets_the_nearest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownSignature, match="no signature `brunch`") as raised:
        _run(job(folder, "saved-model", tmp_path, signature="brunch"))
    assert raised.value.fix == "--signature branch"


def test_an_unknown_rank_is_asked_for_and_taken_from_the_option(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapesNeeded, match="how many axes `x` has"):
        _run(job(folder, "saved-model", tmp_path, signature="any_rank"))
    task = job(folder, "saved-model", tmp_path, "x=2,3", signature="any_rank")
    converted = _run(task)
    assert converted.outputs[0].shape == (2, 3)
    agree(task, converted)


def test_every_operator_without_an_onnx_form_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="2 operators of `model` have no ONNX form") as raised:
        _run(job(folder, "saved-model", tmp_path, signature="foreign"))
    assert "Svd (`" in raised.value.what
    assert "Digamma (`" in raised.value.what


def test_text_that_has_no_onnx_form_names_signatures_without_text(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match="takes or gives text: `words`, `y`") as raised:
        _run(job(folder, "saved-model", tmp_path, signature="text"))
    assert "`dense`" in str(raised.value.why)
    assert "`lookup`" not in str(raised.value.why)


def test_an_opset_beyond_onnx_is_out_of_reach(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OpsetOutOfReach):
        _run(job(folder, "saved-model", tmp_path, signature="dense", opset=3))


def test_bytes_that_are_no_saved_model_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(Corrupt, match="no readable SavedModel"):
        _run(job(tmp_path, "saved-model", tmp_path))


def test_the_runner_takes_the_signature_s_names(folder: Path) -> None:
    from mlconv.convert.saved_model_to_onnx import open_runner

    runner = open_runner(ModelFile("model", folder, "saved-model"), Options(signature="branch"))
    rows = np.full((2, 4), -1, np.float32)
    np.testing.assert_allclose(runner.run({"rows": rows})["y"], rows - 1)
    assert runner.name == "tensorflow-cpu"


@pytest.fixture(scope="module")
def tf1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TensorFlow 1: variables in a session, a placeholder with a default, a table."""
    from mlconv.runners.tensorflow import tensorflow

    tf = tensorflow().compat.v1
    path = tmp_path_factory.mktemp("tf1") / "model"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder_with_default(np.zeros((1, 3), np.float32), (None, 3), name="x")
        y = tf.matmul(x, tf.get_variable("w", initializer=np.eye(3, 2, dtype=np.float32)))
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})
    return path


def test_a_tensorflow_1_model_keeps_the_names_of_its_signature(tf1_folder: Path, tmp_path: Path) -> None:
    task = job(tf1_folder, "saved-model", tmp_path)
    converted = _run(task)
    assert [spec.name for spec in (*converted.inputs, *converted.outputs)] == ["x", "y"]
    agree(task, converted)


# ------------------------------------------------------------------ several graphs


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tagged(("serve",), ("train",))``: a SavedModel of TensorFlow 1 with a graph for each; the n-th multiplies by n."""
    from mlconv.runners.tensorflow import tensorflow

    tf = tensorflow().compat.v1

    def save(*tags: tuple[str, ...]) -> Path:
        path = tmp_path_factory.mktemp("tagged") / "model"
        builder = tf.saved_model.builder.SavedModelBuilder(str(path))
        for index, own in enumerate(tags):
            with tf.Graph().as_default(), tf.Session() as session:
                x = tf.placeholder(tf.float32, (None, 3), name="x")
                y = tf.matmul(x, tf.get_variable("w", initializer=np.eye(3, 2, dtype=np.float32))) * (
                    index + 1.0
                )
                session.run(tf.global_variables_initializer())
                signature = tf.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
                add = builder.add_meta_graph if index else _with_variables(builder, session)
                add(list(own), signature_def_map={"serving_default": signature})
        builder.save()
        return path

    return save


def _with_variables(builder: Any, session: Any) -> Any:
    return lambda tags, **more: builder.add_meta_graph_and_variables(session, tags, **more)


@pytest.mark.parametrize(
    ("tags", "asked", "factor"),
    [
        ((("train",), ("serve",)), None, 2),
        ((("serve", "gpu"), ("serve",)), None, 2),  # that tagged `serve` and nothing else
        ((("train",), ("serve",)), "train", 1),
        ((("train",), ("serve", "gpu")), "gpu", 2),
        ((("serve",), ("serve", "gpu")), "gpu,serve", 2),
        (((),), None, 1),
        ((("train",),), None, 1),
        ((("train",), ()), "", 2),
    ],
)
def test_the_graph_is_that_of_the_tag_else_that_to_serve_else_the_only_one(
    tagged: Callable[..., Path],
    tags: tuple[tuple[str, ...], ...],
    asked: str | None,
    factor: int,
    tmp_path: Path,
) -> None:
    task = job(tagged(*tags), "saved-model", tmp_path, tag=asked)
    converted = _run(task)
    agree(task, converted)
    assert converted.reference.run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[factor, factor]]


def test_inspect_tells_of_the_graph_of_the_tag(tagged: Callable[..., Path], run_cli: RunCli) -> None:
    folder = tagged(("serve",), ("train", "gpu"))
    assert run_cli("inspect", folder, "--json").document["metadata"]["tags"] == "serve"
    told = run_cli("inspect", folder, "--tag", "gpu", "--json").document
    assert told["metadata"]["tags"] == "train, gpu"
    assert run_cli("inspect", folder, "--tag", "cpu").code == 2


@pytest.mark.parametrize(
    ("tags", "asked", "told", "fix"),
    [
        ((("train",), ("eval",)), None, "2 graphs and none tagged `serve`", "--tag train"),
        ((("train",), ("serve",)), "serv", "no graph tagged `serv`", "--tag serve"),
        ((("serve", "gpu"), ("serve", "tpu")), "serve", "several graphs tagged `serve`", "--tag gpu,serve"),
    ],
)
def test_a_tag_that_no_graph_has_names_those_that_are_there(
    tagged: Callable[..., Path],
    tags: tuple[tuple[str, ...], ...],
    asked: str | None,
    told: str,
    fix: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(UnknownTag, match=told) as raised:
        _run(job(tagged(*tags), "saved-model", tmp_path, tag=asked))
    assert raised.value.fix == fix


# ------------------------------------------------------------------ functions without a signature


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel without a signature, whose root object has functions."""
    from mlconv.runners.tensorflow import tensorflow

    tf = tensorflow()

    class Net(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))

        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, rows: Any) -> Any:
            return rows @ self.weights

        @tf.function  # type: ignore[untyped-decorator]
        def nested(self, given: Any, power: int, training: bool = False) -> Any:
            made = (given["a"] + given["b"][0]) ** power
            return {"made": made + 100.0 if training else made, "same": given["b"]}

        @tf.function  # type: ignore[untyped-decorator]
        def shaped(self, x: Any) -> Any:
            return x * 2.0

        @tf.function  # type: ignore[untyped-decorator]
        def never(self, x: Any) -> Any:
            return x

    net = Net()
    net.__call__.get_concrete_function(tf.TensorSpec((None, 4)))  # type: ignore[attr-defined]
    given = {"a": tf.TensorSpec((None, 2)), "b": (tf.TensorSpec((None, 2)),)}
    for training in (True, False):
        net.nested.get_concrete_function(given, 3, training)
    net.shaped.get_concrete_function(tf.TensorSpec((2, 4)))
    net.shaped.get_concrete_function(tf.TensorSpec((3, 4)))
    path = tmp_path_factory.mktemp("functions") / "model"
    tf.saved_model.save(net, str(path))
    return path


def test_without_a_signature_the_call_of_the_object_is_taken(functions: Path, tmp_path: Path) -> None:
    task = job(functions, "saved-model", tmp_path)
    converted = _run(task)
    assert [(spec.name, spec.shape) for spec in converted.inputs] == [("rows", ("batch", 4))]
    assert [spec.name for spec in converted.outputs] == ["output_0"]
    agree(task, converted)


def test_a_function_of_nests_and_plain_values_is_called_as_it_was_traced_for_inference(
    functions: Path, tmp_path: Path
) -> None:
    task = job(functions, "saved-model", tmp_path, signature="nested")
    converted = _run(task)
    agree(task, converted)
    one, two = np.full((1, 2), 1, np.float32), np.full((1, 2), 2, np.float32)
    answers = converted.reference.run({"a": one, "b_0": two})
    assert answers["made"].tolist() == [[27, 27]]  # (1 + 2) ** 3, without the 100 of training
    assert answers["same"].tolist() == two.tolist()


def test_a_function_that_was_saved_for_training_alone_is_told(tmp_path: Path) -> None:
    from mlconv.runners.tensorflow import tensorflow

    tf = tensorflow()

    class Net(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function  # type: ignore[untyped-decorator]
        def __call__(self, x: Any, training: bool = False) -> Any:
            return x * 3.0 if training else x * 2.0

    net = Net()
    net(tf.zeros((2, 4)), training=True)
    tf.saved_model.save(net, str(tmp_path / "trains"))
    converted = _run(job(tmp_path / "trains", "saved-model", tmp_path))
    assert converted.warnings == ["`__call__` was saved for training=True alone, and computes as in training"]
    net(tf.zeros((2, 4)))
    tf.saved_model.save(net, str(tmp_path / "both"))
    assert _run(job(tmp_path / "both", "saved-model", tmp_path)).warnings == []


def test_of_several_shapes_the_input_option_takes_one(functions: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapesNeeded, match="`shaped` was saved for several kinds of inputs") as raised:
        _run(job(functions, "saved-model", tmp_path, signature="shaped"))
    assert raised.value.fix == "--input x=2,4:float32"
    task = job(functions, "saved-model", tmp_path, "x=3,4", signature="shaped")
    converted = _run(task)
    assert converted.outputs[0].shape == (3, 4)
    agree(task, converted)


def test_a_function_that_was_never_called_cannot_be_taken(functions: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownSignature, match=r"`never` of .* was never called before it was saved"):
        _run(job(functions, "saved-model", tmp_path, signature="never"))


def test_a_mistyped_function_gets_the_nearest(functions: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownSignature, match="no signature `shape`") as raised:
        _run(job(functions, "saved-model", tmp_path, signature="shape"))
    assert raised.value.fix == "--signature shaped"
    assert "`__call__` (rows: float32[?,4])" in str(raised.value.why)


def test_functions_are_described_as_entry_points_without_tensorflow(functions: Path) -> None:
    from mlconv.formats.saved_model import describe

    described = describe(ModelFile("model", functions, "saved-model"), "nested")
    assert [(spec.name, spec.shape) for spec in described.inputs] == [("a", (None, 2)), ("b_0", (None, 2))]
    assert described.signatures == ("__call__", "nested", "never", "shaped")


# ------------------------------------------------------------------ public models


def test_a_model_beyond_tensorflow_2_s_loader_converts_through_a_session(
    models: Path, tmp_path: Path
) -> None:
    task = job(models / KWS, "saved-model", tmp_path)
    converted = _run(task)
    assert [spec.name for spec in (*converted.inputs, *converted.outputs)] == ["input_1", "dense"]
    agree(task, converted)


def test_the_session_alone_runs_and_freezes_it_too(models: Path) -> None:
    from mlconv.convert.saved_model_to_onnx import _in_session, select, signatures

    signature = select(signatures(models / KWS), None, "kws")
    loaded = _in_session(models / KWS, signature)
    assert loaded.call({"input_1": np.zeros((2, 49, 10, 1), np.float32)})["dense"].shape == (2, 12)
    assert not [node.op for node in loaded.freeze(signature).graph_def.node if "Variable" in node.op]


@pytest.mark.parametrize("signature", [None, "regress_x2_to_y3"])
def test_what_parses_records_before_an_input_is_cut_off(
    models: Path, signature: str | None, tmp_path: Path
) -> None:
    task = job(models / HALF_PLUS_TWO, "saved-model", tmp_path, signature=signature)
    agree(task, _run(task))
    assert set(operators(task)) <= {"Mul", "Add"}


def test_a_signature_of_serialised_records_names_those_that_would_do(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match="takes or gives text: `inputs`") as raised:
        _run(job(models / HALF_PLUS_TWO, "saved-model", tmp_path, signature="classify_x_to_y"))
    assert "`regress_x2_to_y3`, `serving_default`" in str(raised.value.why)


def test_a_model_of_strings_is_an_unsupported_type(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match="takes or gives text"):
        _run(job(models / STRINGS, "saved-model", tmp_path))
