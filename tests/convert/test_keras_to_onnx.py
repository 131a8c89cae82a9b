"""Keras models to ONNX: every architecture agrees with Keras at batch 1 and 3."""

from __future__ import annotations

import builtins
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.convert.job import Options
from mlconv.errors import (
    BadInputOption,
    CustomObjectsNeeded,
    MissingPackage,
    ShapesNeeded,
    UnknownOutput,
    UnsupportedOperator,
    UntrustedCode,
)
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input

sys.path.insert(0, str(Path(__file__).parent))
from tf_models import agree, job, operators

pytestmark = [
    pytest.mark.framework("tensorflow", "keras", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow, Keras and tf2onnx warn of themselves
]


def _cnn_with_residuals(keras: Any) -> Any:
    x = image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 3, padding="same")(x)])
    return keras.Model(image, keras.layers.Dense(4, name="scores")(keras.layers.GlobalAveragePooling2D()(x)))


def _depthwise_and_grouped(keras: Any) -> Any:
    image = keras.Input((12, 12, 8), name="image")
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(image)
    return keras.Model(
        image, keras.layers.Conv2D(8, 3, groups=4, activation="hard_swish", name="features")(x)
    )


def _recurrent(kind: str) -> Callable[[Any], Any]:
    def make(keras: Any) -> Any:
        layer = getattr(keras.layers, kind)
        return keras.Sequential(
            [keras.Input((7, 5), name="steps"), layer(6, return_sequences=True), layer(4)]
        )

    return make


def _bidirectional_with_mask(keras: Any) -> Any:
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.Embedding(3, 4, mask_zero=True)(words)
    return keras.Model(words, keras.layers.Bidirectional(keras.layers.LSTM(3), name="both")(x))


def _attention(keras: Any) -> Any:
    tokens = keras.Input((6, 8), name="tokens")
    x = keras.layers.LayerNormalization()(tokens + keras.layers.MultiHeadAttention(2, 4)(tokens, tokens))
    return keras.Model(tokens, keras.layers.Dense(3, name="scores")(x))


def _exact_gelu(keras: Any) -> Any:
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(5, activation="gelu")])


def _unet(keras: Any) -> Any:
    image = keras.Input((None, None, 3), name="image")
    a = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    b = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.MaxPooling2D()(a))
    up = keras.layers.Concatenate()(
        [keras.layers.Conv2DTranspose(4, 2, strides=2)(b), a, keras.layers.UpSampling2D()(b)]
    )
    return keras.Model(image, keras.layers.Conv2D(2, 1, name="mask")(up))


def _preprocessing(keras: Any) -> Any:
    image = keras.Input((10, 10, 3), name="image")
    x = keras.layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(
        keras.layers.Rescaling(0.5)(image)
    )
    return keras.Model(image, keras.layers.Resizing(6, 6, name="small")(x))


def _multi_input_output(keras: Any) -> Any:
    z, a = keras.Input((4,), name="z"), keras.Input((3,), name="a")
    x = keras.layers.Concatenate()([z, a])
    return keras.Model(
        [z, a], [keras.layers.Dense(2, name="second")(x), keras.layers.Dense(1, name="first")(x)]
    )


def _dict_output(keras: Any) -> Any:
    x = keras.Input((4,), name="x")
    return keras.Model({"x": x}, {"score": keras.layers.Dense(1)(x), "class": keras.layers.Dense(3)(x)})


ARCHITECTURES = {
    "cnn with residuals": _cnn_with_residuals, "depthwise and grouped": _depthwise_and_grouped, "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"), "bidirectional with mask": _bidirectional_with_mask, "attention": _attention,
    "exact GELU": _exact_gelu, "U-Net": _unet, "preprocessing": _preprocessing, "multi-IO": _multi_input_output,
    "dict output": _dict_output,
}  # fmt: skip


@pytest.fixture(scope="module")
def keras() -> Any:
    from mlconv.runners.tensorflow import tensorflow

    tensorflow()
    import keras

    return keras


def _saved(keras: Any, name: str, folder: Path, suffix: str = ".keras") -> Path:
    keras.utils.set_random_seed(0)
    path = folder / f"model{suffix}"
    ARCHITECTURES[name](keras).save(path)
    return path


def _run(task: Any) -> Any:
    from mlconv.convert.keras_to_onnx import run

    return run(task)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_agrees_with_keras_at_batch_1_and_3(keras: Any, name: str, tmp_path: Path) -> None:
    task = job(_saved(keras, name, tmp_path), "keras", tmp_path)
    agree(task, _run(task))


def test_an_lstm_becomes_onnx_s_own_operator_and_no_loop(keras: Any, tmp_path: Path) -> None:
    task = job(_saved(keras, "LSTM", tmp_path), "keras", tmp_path)
    _run(task)
    assert operators(task).count("LSTM") == 2
    assert "Loop" not in operators(task)


def test_dynamic_axes_are_called_batch_height_and_width_on_both_sides(keras: Any, tmp_path: Path) -> None:
    converted = _run(job(_saved(keras, "U-Net", tmp_path), "keras", tmp_path))
    assert converted.inputs[0].shape == ("batch", "height", "width", 3)
    assert converted.outputs[0].shape is not None
    assert converted.outputs[0].shape[0] == "batch"
    assert converted.outputs[0].shape[3] == 2


def test_inputs_keep_the_model_s_order_and_outputs_their_layers_names(keras: Any, tmp_path: Path) -> None:
    converted = _run(job(_saved(keras, "multi-IO", tmp_path), "keras", tmp_path))
    assert [spec.name for spec in converted.inputs] == ["z", "a"]
    assert [spec.name for spec in converted.outputs] == ["second", "first"]


def test_outputs_of_a_dict_are_called_by_their_keys(keras: Any, tmp_path: Path) -> None:
    converted = _run(job(_saved(keras, "dict output", tmp_path), "keras", tmp_path))
    assert {spec.name: spec.shape for spec in converted.outputs} == {
        "class": ("batch", 3),
        "score": ("batch", 1),
    }


def test_input_options_fix_sizes_and_name_axes(keras: Any, tmp_path: Path) -> None:
    source = _saved(keras, "U-Net", tmp_path)
    fixed = job(source, "keras", tmp_path, "image=1,8,16,3")
    converted = _run(fixed)
    assert converted.outputs[0].shape == (1, 8, 16, 2)
    agree(fixed, converted)
    assert _run(job(source, "keras", tmp_path, "n,h,w,3")).outputs[0].shape[0] == "n"


def test_a_size_that_the_model_fixes_cannot_be_made_dynamic(keras: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInputOption, match="fixes it to"):
        _run(job(_saved(keras, "exact GELU", tmp_path), "keras", tmp_path, "x=batch,n"))


def test_outputs_option_keeps_what_it_names(keras: Any, tmp_path: Path) -> None:
    source = _saved(keras, "multi-IO", tmp_path)
    task = job(source, "keras", tmp_path, outputs=("first",))
    converted = _run(task)
    assert [spec.name for spec in converted.outputs] == ["first"]
    assert [spec.name for spec in converted.inputs] == ["z", "a"]
    agree(task, converted)
    with pytest.raises(UnknownOutput, match="no output `frist`") as raised:
        _run(job(source, "keras", tmp_path, outputs=("frist",)))
    assert raised.value.fix == "--outputs first"


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_the_artifact_has_the_opset_that_was_asked_for(keras: Any, opset: int, tmp_path: Path) -> None:
    import onnx

    task = job(_saved(keras, "cnn with residuals", tmp_path), "keras", tmp_path, opset=opset)
    agree(task, _run(task))
    assert {entry.version for entry in onnx.load(task.output).opset_import if entry.domain == ""} == {opset}


def test_hdf5_is_read_under_any_suffix(keras: Any, tmp_path: Path) -> None:
    source = _saved(keras, "cnn with residuals", tmp_path, ".h5")
    misnamed = shutil.copyfile(source, tmp_path / "renamed.keras")
    task = job(misnamed, "keras-h5", tmp_path)
    agree(task, _run(task))
    assert list(tmp_path.glob("source*")) == []


def test_string_lookup_becomes_an_operator_of_ai_onnx_ml(keras: Any, tmp_path: Path) -> None:
    words = keras.Input((1,), dtype="string", name="words")
    keras.Model(words, keras.layers.StringLookup(vocabulary=["a", "b"])(words)).save(tmp_path / "m.keras")
    task = job(tmp_path / "m.keras", "keras", tmp_path)
    converted = _run(task)
    assert converted.inputs[0].dtype == "str"
    assert "CategoryMapper" in operators(task)
    agree(task, converted)


def test_a_stateful_layer_starts_from_the_saved_state_at_every_run(keras: Any, tmp_path: Path) -> None:

    steps = keras.Input((3, 2), batch_size=1, name="steps")
    keras.Model(steps, keras.layers.LSTM(2, stateful=True, name="memory")(steps)).save(tmp_path / "m.keras")
    task = job(tmp_path / "m.keras", "keras", tmp_path)
    converted = _run(task)
    fed = {"steps": np.ones((1, 3, 2), np.float32)}
    np.testing.assert_array_equal(
        converted.reference.run(fed)["memory"], converted.reference.run(fed)["memory"]
    )
    assert "state of `memory` is not kept" in converted.warnings[0]
    agree(task, converted, batches=(1,))


def test_a_layer_of_the_author_s_own_is_named(keras: Any, tmp_path: Path) -> None:
    class Own(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + 1

    keras.Sequential([keras.Input((2,)), Own()]).save(tmp_path / "m.keras")
    with pytest.raises(CustomObjectsNeeded, match="Keras does not have: `Own`") as raised:
        _run(job(tmp_path / "m.keras", "keras", tmp_path))
    assert raised.value.fix.startswith("--custom-objects ")


def test_a_lambda_is_refused_without_consent_and_runs_with_it(keras: Any, tmp_path: Path) -> None:
    keras.Sequential(
        [keras.Input((2,), name="x"), keras.layers.Lambda(lambda x: x * 2, output_shape=(2,))]
    ).save(tmp_path / "m.keras")
    with pytest.raises(UntrustedCode, match="lambda"):
        _run(job(tmp_path / "m.keras", "keras", tmp_path))
    task = job(tmp_path / "m.keras", "keras", tmp_path, trust_model=True)
    agree(task, _run(task))


def test_the_runner_of_a_file_gives_what_keras_gives(keras: Any, tmp_path: Path) -> None:

    from mlconv.convert.keras_to_onnx import open_runner

    source = _saved(keras, "exact GELU", tmp_path)
    runner = open_runner(ModelFile("m.keras", source, "keras"), Options())
    x = np.ones((2, 4), np.float32)
    assert runner.name == "keras-cpu"
    (answer,) = runner.run({"x": x}).values()
    np.testing.assert_allclose(answer, keras.models.load_model(source).predict(x, verbose=0), atol=1e-6)


# ------------------------------------------------------------------ Keras 2


def _keras_2_file(path: Path) -> Path:
    """A file that Keras 3 refuses: its DepthwiseConv2D has `groups`."""
    tf_keras = pytest.importorskip("tf_keras")
    image = tf_keras.Input((8, 8, 3), name="image")
    x = tf_keras.layers.DepthwiseConv2D(3, name="depthwise")(image) * 2.0
    tf_keras.Model(image, x).save(path)
    return path


def test_keras_2_loads_what_keras_3_refuses_and_the_record_says_so(tmp_path: Path) -> None:
    task = job(_keras_2_file(tmp_path / "m.h5"), "keras-h5", tmp_path)
    converted = _run(task)
    assert "loaded by tf_keras" in converted.warnings[0]
    assert "tf_keras" in converted.packages
    agree(task, converted)


def test_without_tf_keras_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _keras_2_file(tmp_path / "m.h5")
    real = builtins.__import__

    def without_tf_keras(name: str, *rest: Any) -> Any:
        if name == "tf_keras":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_tf_keras)
    with pytest.raises(MissingPackage) as raised:
        _run(job(source, "keras-h5", tmp_path))
    assert raised.value.fix == "pip install --no-deps tf_keras"


def test_a_keras_2_lambda_is_refused_before_it_is_unmarshalled(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Lambda(lambda x: x * 2)]).save(
        tmp_path / "m.h5"
    )
    with pytest.raises(UntrustedCode, match="carries Python code"):
        _run(job(tmp_path / "m.h5", "keras-h5", tmp_path))


def _edited(path: Path, *changes: tuple[str, str]) -> Path:
    """The file with its configuration changed as text."""
    import h5py

    with h5py.File(path, "r+") as file:
        for old, new in changes:
            assert old in file.attrs["model_config"]
            file.attrs["model_config"] = file.attrs["model_config"].replace(old, new)
    return path


@pytest.mark.parametrize(
    "function",
    [
        "io.read_file",
        "compat.v1.gfile.MakeDirs",
        "io.gfile.makedirs",
        "keras.utils.get_file",
        "keras.models.load_model",
    ],
)
def test_a_keras_2_function_that_reaches_out_is_refused_and_not_called(function: str, tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    import tensorflow as tf

    canary = tmp_path / "canary"
    x = tf_keras.Input((2,), name="x")
    tf_keras.Model(x, [x, tf.abs(x)]).save(tmp_path / "m.h5")
    _edited(tmp_path / "m.h5", ('"math.abs"', f'"{function}"'),
            ('"inbound_nodes": [["x", 0, 0, {}]]', f'"inbound_nodes": [["_CONSTANT_VALUE", -1, "{canary}", {{}}]]'))  # fmt: skip
    with pytest.raises(UntrustedCode, match=rf"reach out of the model: `{re.escape(function)}`"):
        _run(job(tmp_path / "m.h5", "keras-h5", tmp_path))
    assert not canary.exists()


def test_keras_2_functions_on_tensors_are_converted_without_consent(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    import tensorflow as tf

    image = tf_keras.Input((8, 8, 3), name="image")
    x = tf.concat([tf.nn.relu6(image + 3.0) * image, image[:, :, ::-1]], axis=-1)
    x = tf.image.resize(tf.transpose(x, [0, 2, 1, 3]), (4, 4), method="nearest")
    tf_keras.Model(image, tf.reshape(x, (-1, 96))).save(tmp_path / "m.h5")
    task = job(tmp_path / "m.h5", "keras-h5", tmp_path)
    agree(task, _run(task))


def test_keras_2_imports_no_module_that_a_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text("import pathlib; pathlib.Path(__file__).with_name('canary').mkdir()")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = _edited(
        _keras_2_file(tmp_path / "m.h5"),
        (
            '"class_name": "DepthwiseConv2D"',
            '"module": "theirs", "registered_name": null, "class_name": "Net"',
        ),
    )
    (tmp_path / "mine.py").write_text("class Net:\n    pass\n")
    for given in (
        None,
        str(tmp_path / "mine.py"),
    ):  # a class of that name does not make Keras 2 look for it there
        with pytest.raises(CustomObjectsNeeded, match="`Net`"):
            _run(job(source, "keras-h5", tmp_path, custom_objects=given))
    assert not (tmp_path / "canary").exists()


def test_a_model_that_was_never_built_names_the_parameter_of_its_call_and_takes_its_shape(keras: Any) -> None:
    from mlconv.convert.keras_to_onnx import signature
    from mlconv.convert.tensorflow_import.keras_files import KerasModel
    from mlconv.convert.tensorflow_import.keras_inputs import with_inputs

    loaded = KerasModel(keras.Sequential([keras.layers.Dense(1)]), keras)
    with pytest.raises(ShapesNeeded, match="does not tell the shapes of its inputs: `inputs`") as raised:
        with_inputs(loaded, Options())
    assert raised.value.fix.startswith("--input inputs=batch,224,224,3")
    given = with_inputs(loaded, Options(input=(parse_input("inputs=batch,7"),)))
    assert [(spec.name, spec.shape) for spec in signature(given)[0]] == [("inputs", (None, 7))]


# ------------------------------------------------------------------ preprocessing inside the model


def test_augmentation_vanishes_and_what_prepares_pictures_stays(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = layers.CenterCrop(10, 10)(layers.Resizing(12, 12)(layers.Rescaling(1 / 255)(image)))
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).random((8, 10, 10, 3)).astype(np.float32))
    x = adapted(x)
    for layer in (
        *(
            layers.RandomFlip(),
            layers.RandomRotation(0.2),
            layers.RandomZoom(0.2),
            layers.RandomContrast(0.2),
        ),
        *(
            layers.RandomBrightness(0.2),
            layers.RandomTranslation(0.1, 0.1),
            layers.Dropout(0.5),
            layers.GaussianNoise(0.3),
        ),
    ):
        x = layer(x)
    keras.Model(image, layers.Conv2D(2, 3, name="features")(x)).save(tmp_path / "m.keras")
    task = job(tmp_path / "m.keras", "keras", tmp_path)
    agree(task, _run(task))
    assert not [kind for kind in operators(task) if "Random" in kind or kind == "If"]


@pytest.mark.framework("tf_keras")
def test_a_random_crop_of_keras_2_is_a_resize_and_its_generator_is_gone(tmp_path: Path) -> None:
    import tf_keras

    layers = tf_keras.layers
    image = tf_keras.Input((12, 12, 3), name="image")
    x = layers.RandomCrop(8, 8)(layers.RandomFlip()(image))
    tf_keras.Model(image, layers.Conv2D(2, 3, name="features")(x)).save(tmp_path / "m.h5")
    task = job(tmp_path / "m.h5", "keras-h5", tmp_path)
    agree(task, _run(task))
    assert not {"If", "RandomUniform"} & set(operators(task))


def test_integer_lookup_and_discretization_become_operators(keras: Any, tmp_path: Path) -> None:
    import onnxruntime

    number, real = keras.Input((1,), dtype="int64", name="number"), keras.Input((4,), name="real")
    looked = keras.layers.IntegerLookup(vocabulary=[30, 5, 70])(number)
    binned = keras.layers.Discretization(bin_boundaries=[0.0, 0.5, 1.0])(real)
    keras.Model([number, real], [looked, binned]).save(tmp_path / "m.keras")
    task = job(tmp_path / "m.keras", "keras", tmp_path)
    _run(task)
    session = onnxruntime.InferenceSession(str(task.output), providers=["CPUExecutionProvider"])
    fed = {
        "number": np.array([[30], [70], [6]]),
        "real": np.array([[-1, 0, 0.25, 0.5], [0.75, 1, 2, np.nan], [0] * 4], np.float32),
    }
    indices, bins = session.run(None, fed)
    assert indices.tolist() == [[1], [3], [0]]  # 0 stands for what is not in the vocabulary
    assert bins.tolist() == [[0, 1, 1, 2], [2, 3, 3, 3], [1] * 4]


def test_a_layer_of_text_is_named_with_a_line_that_saves_what_is_behind_it(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = keras.Input((1,), dtype="string", name="text")
    vectors = keras.layers.TextVectorization(output_sequence_length=5, vocabulary=["a", "b"], name="words")(
        text
    )
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8, 4)(vectors))
    keras.Model(text, keras.layers.Dense(2, name="y")(x)).save(tmp_path / "text.keras")
    with pytest.raises(UnsupportedOperator, match=r"`words` \(TextVectorization\) of `text.keras`") as raised:
        _run(job(tmp_path / "text.keras", "keras", tmp_path))
    assert "mlconv onnx behind.keras" in raised.value.fix
    program = shlex.split(raised.value.fix)[2]
    monkeypatch.chdir(tmp_path)
    exec(program)
    task = job(tmp_path / "behind.keras", "keras", tmp_path)
    agree(task, _run(task))


@pytest.mark.parametrize("heads", [1, 2])
def test_the_line_that_saves_what_is_behind_text_runs_for_every_kind_of_model(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: int
) -> None:
    layers = [
        keras.layers.TextVectorization(output_sequence_length=5, vocabulary=["a", "b"], name="words"),
        keras.layers.Embedding(8, 4),
        keras.layers.GlobalAveragePooling1D(),
    ]
    if heads == 1:
        model = keras.Sequential([keras.Input((1,), dtype="string"), *layers, keras.layers.Dense(2)])
    else:
        text = x = keras.Input((1,), dtype="string", name="text")
        for layer in layers:
            x = layer(x)
        model = keras.Model(text, [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])
    model.save(tmp_path / "text.keras")
    with pytest.raises(UnsupportedOperator) as raised:
        _run(job(tmp_path / "text.keras", "keras", tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(raised.value.fix)[2])
    task = job(tmp_path / "behind.keras", "keras", tmp_path)
    agree(task, _run(task))


# ------------------------------------------------------------------ public models


@pytest.mark.parametrize(
    "name",
    [
        "mlcommons_tiny/benchmark__training__image_classification__trained_models__pretrainedResnet.h5",
        "microsoft_Windows-Machine-Learning/Tools__WinMLDashboard__test__convert_collateral__keras_Add_ImageNet.keras",
        "Ollie-Gullery_Real-Time-Audio-Classification/models__model.keras",
        "Kazuhito00_hand-gesture-recognition-using-mediapipe/model__keypoint_classifier__keypoint_classifier.hdf5",
    ],
)
def test_a_public_model_agrees_with_keras(models: Path, name: str, tmp_path: Path) -> None:
    task = job(models / name, "keras-h5", tmp_path)
    agree(task, _run(task))
